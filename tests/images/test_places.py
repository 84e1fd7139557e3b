"""Places: the same operations on this machine and at a URL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from object_store import Bucket

from dcpipe.images import places
from dcpipe.images.listing import file_at, files_below, list_files
from dcpipe.images.places import (
    Piece,
    Place,
    Remote,
    names_in,
    open_file,
    place,
    read_file,
    read_piece,
    read_pieces,
    relative,
)
from dcpipe.types import DataError

FILES = {"a/1.png": b"one", "a/b c/é.png": b"two", "b/._1.png": b"x", "b/2.png": b"three", "c.txt": b"four"}


@pytest.fixture(params=["here", "at a URL"])
def root(request: pytest.FixtureRequest, tmp_path: Path, bucket: Bucket) -> Place:
    """The files in a folder of this machine, and in one of a bucket."""
    for name, content in FILES.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    if request.param == "here":
        return place(tmp_path / "set")
    bucket.put("places/set/", b"")  # as consoles make folders
    return place(bucket.put_folder(tmp_path / "set", "places/set") + "/")


def test_both_kinds_of_places_do_the_same(root: Place) -> None:
    assert names_in(root) == (["c.txt"], ["a", "b"]) and names_in(root / "a") == (["1.png"], ["b c"])
    assert names_in(root / "nowhere") == ([], [])
    assert (root / "a").name == "a" and root / "a" / "1.png" == root / "a/1.png" and root / "" == root
    file = root / "a/b c/é.png"
    assert relative(file, root) == "a/b c/é.png" and file.name == "é.png"
    assert read_file(file) == read_file(file, 3) == b"two"
    with open_file(file) as stream:
        assert stream.read(1) == b"t" and stream.seek(2) == 2 and stream.read() == b"o"
    pieces = [Piece(root / "b/2.png", 1, 3), Piece(root / "c.txt", 0, 4), Piece(root / "b/2.png", 4, 0)]
    assert read_pieces(pieces) == [b"hre", b"four", b""]
    with pytest.raises(DataError, match=r"c\.txt (has only 4 bytes where 5 were|ends before byte 5, where an image)"):
        read_pieces([Piece(root / "c.txt", 2, 3)])
    with pytest.raises(DataError, match=r"nowhere (does not exist|cannot be read \(No such file)"):
        read_file(root / "nowhere")
    with pytest.raises(DataError, match=r"has 1,073,741,825 bytes, more than the 1,073,741,824 it may have"):
        read_pieces([Piece(root / "c.txt", 0, places.MAX_FILE + 1)])


def test_both_kinds_are_listed_alike(root: Place) -> None:
    found = list(files_below(root))
    assert [(file.name, file.size) for file in found] == [
        ("a/1.png", 3),
        ("a/b c/é.png", 3),
        ("b/2.png", 5),
        ("c.txt", 4),
    ]
    assert all(file.version and not file.lost for file in found)
    [one] = files_below(root / "c.txt")
    assert (one.name, one.size, one.version) == found[3][:3] and file_at(root / "c.txt") == one
    with pytest.raises(DataError, match=r"nowhere (does not exist|cannot be listed \(No such file or directory\))"):
        file_at(root / "nowhere")
    whole = list_files([root])
    assert (whole.files, whole.bytes) == (4, 15)
    assert list_files([root / "b", root / "a"]) == list_files([root / "a", root / "b"])


def test_a_changed_object_is_noticed(bucket: Bucket) -> None:
    for name in ("1", "2"):
        bucket.put(f"noticed/{name}", b"same")
    places = [Remote(f"{bucket.url}/noticed")]
    before = list_files(places)
    bucket.put("noticed/1", b"same")
    assert list_files(places) == before, "the time alone says nothing where there is an ETag"
    bucket.put("noticed/1", b"SAME")
    assert list_files(places).sha256 != before.sha256


def test_files_of_the_web_have_quoted_names_and_no_folders(bucket: Bucket) -> None:
    root = place(bucket.http(bucket.put("web/a b#.png", b"content", public=True)).rpartition("/")[0])
    assert isinstance(root, Remote) and root.is_web
    file = root / "a b#.png"
    assert str(file).endswith("/a%20b%23.png") and file.name == relative(file, root) == "a b#.png"
    assert read_file(file) == b"content" and [found.name for found in files_below(file)] == ["a b#.png"]
    with pytest.raises(DataError, match="has no list of its files, because it is https; name one file"):
        names_in(root)


def test_urls_with_secrets_are_refused_and_not_repeated() -> None:
    with pytest.raises(DataError) as error:
        place("s3://key:sesame@bucket/x")
    assert "remove it" in str(error.value) and "sesame" not in str(error.value)


@given(
    pieces=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 90_000), st.sampled_from([0, 1, 700, 5000, 10_000])),
        max_size=30,
    ),
    ordered=st.booleans(),
)
def test_neighbours_are_read_at_once(
    pieces: list[tuple[str, int, int]], ordered: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "neighbours"
    folder.mkdir(exist_ok=True)
    contents = {name: np.random.default_rng(ord(name)).bytes(100_000) for name in "ab"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    asked = [Piece(folder / name, start, size) for name, start, size in (sorted(pieces) if ordered else pieces)]
    expected = [contents[piece.file.name][piece.start : piece.start + piece.size] for piece in asked]
    with pytest.MonkeyPatch.context() as patch:
        read: list[Piece] = []
        patch.setattr(places, "RUN", 20_000)
        patch.setattr(places, "read_piece", lambda piece: read.append(piece) or read_piece(piece))
        assert read_pieces(asked) == expected
    assert all(piece.size <= max(20_000, *(one.size for one in asked)) for piece in read)
    wanted = sum(piece.size for piece in asked)
    assert sum(piece.size for piece in read) <= wanted + places.GAP * len(asked)


def test_the_images_of_an_archive_take_few_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(bytes(10**6))
    read: list[Piece] = []
    monkeypatch.setattr(places, "read_piece", lambda piece: read.append(piece) or read_piece(piece))
    pieces = [Piece(tmp_path / "a", start, 3000) for start in range(0, 900_000, 5120)]
    assert len(read_pieces(pieces)) == 176 and len(read) == 1
    read.clear()
    monkeypatch.setattr(places, "RUN", 100_000)
    assert read_pieces(pieces) == 176 * [bytes(3000)]
    assert len(read) == 10 and all(piece.size <= 100_000 for piece in read), "and no more at once"


def test_requests_overlap_and_keep_their_order() -> None:
    """Each of two waits for the other."""
    from threading import Barrier

    barrier = Barrier(2, timeout=20)
    assert places.overlapping(lambda item: (barrier.wait(), item)[1], [3, 1], remote=True) == [3, 1]
    assert places.overlapping(str, [3, 1], remote=False) == ["3", "1"]
