"""Tar shards: every image and label in them is found at its place, and hostile archives are one sentence each."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import any_bytes
from tar_shards import member, write_shard

from dcpipe.images.tars import read_index
from dcpipe.types import DataError

PAIR = {"a.jpg": b"one", "a.cls": b"0"}


def index_of(path: Path, label_key: str = "label") -> list[dict[str, Any]]:
    with path.open("rb") as stream:
        return read_index(path, stream, path.stat().st_size, label_key).to_pylist()


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        index_of(path, **options)
    text = str(error.value)
    assert "\n" not in text and path.name in text
    return text


KEYS = st.text("abcé0/-_ ", min_size=1, max_size=150).filter(lambda key: all(key.split("/")))


@settings(max_examples=30, deadline=None)
@given(
    samples=st.dictionaries(KEYS, st.tuples(st.sampled_from(["jpg", "JPEG", "png", "webp"]), st.binary(min_size=1))),
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    data=st.data(),
)
def test_the_bytes_at_a_place_are_those_of_the_member(
    samples: dict[str, tuple[str, bytes]], format: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In all formats that programs write, with names longer than a header has room for, members in any order."""
    members = [(f"{key}.{suffix}", content) for key, (suffix, content) in samples.items()]
    members += [(f"{key}.cls", b"%d\n" % number) for number, key in enumerate(samples)]
    members += [(f"{key}.seg.png", b"not an image of the set") for key in samples]
    path = write_shard(tmp_path_factory.mktemp("t") / "s.tar", data.draw(st.permutations(members)), format)
    found, whole = {row["name"]: row for row in index_of(path)}, path.read_bytes()
    for number, (key, (suffix, content)) in enumerate(samples.items()):
        row = found.pop(f"{key}.{suffix}")
        assert whole[row["start"] : row["start"] + row["size"]] == content
        assert (row["label"], row["class"]) == (number, None)
    assert not found


def test_samples_come_in_the_order_of_the_archive_and_hidden_members_are_none(tmp_path: Path) -> None:
    path = write_shard(
        tmp_path / "s.tar",
        {
            "./b/2.jpg": b"b",
            "./b/._2.jpg": b"x",
            "__MACOSX/b/2.jpg": b"x",
            "./b/2.cls": b"1",
            "1.cls": b"0",
            "1.png": b"a",
            "notes.md": b"",
        },
    )
    assert [(row["name"], row["label"]) for row in index_of(path)] == [("b/2.jpg", 1), ("1.png", 0)]


def test_labels_come_from_cls_or_json_or_txt(tmp_path: Path) -> None:
    files = {
        "0.jpg": b"x", "0.cls": b" 7\n", "0.json": b"{", "0.txt": b"cat",
        "1.jpg": b"x", "1.json": b'{"label": 8, "caption": "dog"}', "1.txt": b"cat",
        "2.jpg": b"x", "2.json": b'{"caption": "dog"}', "2.txt": b"cat\n",
        "3.jpg": b"x", "3.json": b'{"label": "emu"}',
    }  # fmt: skip
    path = write_shard(tmp_path / "s.tar", files)
    assert [(row["label"], row["class"]) for row in index_of(path)] == [
        (7, None),
        (8, None),
        (None, "cat"),
        (None, "emu"),
    ]
    captions = {name: content for name, content in files.items() if name[0] in "12"}
    path = write_shard(tmp_path / "s.tar", captions)
    assert [row["class"] for row in index_of(path, label_key="caption")] == ["dog", "dog"]


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"a.jpg": b"x"}, "key 'a' has an image but no label (.cls, .json or .txt); add one or remove the image"),
        ({"a.cls": b"0"}, "the key 'a' has a .cls but no image (.jpeg, .jpg, .png, .webp); add or remove it"),
        ({**PAIR, "a.png": b"y"}, "its member 'a.png' is the second image of its key; rename it"),
        ([*PAIR.items(), ("a.jpg", b"y")], "its member 'a.jpg' is there twice; remove one"),
        ([*PAIR.items(), ("./a.cls", b"0")], "its member 'a.cls' is there twice; remove one"),
        ({"a.jpg": b"", "a.cls": b"0"}, "'a.jpg' has 0 bytes, but an image has 1 to 1,073,741,824; remove it"),
        ({"a.jpg": b"x", "a.cls": b"cat"}, "its .cls is 'cat', expected the number of a class from 0; write that"),
        ({"a.jpg": b"x", "a.cls": b"-1"}, "its .cls is '-1', expected the number"),
        ({"a.jpg": b"x", "a.cls": b"9" * 40}, "expected the number of a class from 0"),
        ({"a.jpg": b"x", "a.cls": "²".encode()}, "its .cls is '²', expected the number"),
        ({"a.jpg": b"x", "a.cls": b"\xff"}, "its .cls is no UTF-8 text; write it again"),
        ({"a.jpg": b"x", "a.json": b"{"}, "its .json is damaged ("),
        ({"a.jpg": b"x", "a.json": b"[" * 10**5}, "its .json is damaged (RecursionError"),
        ({"a.jpg": b"x", "a.json": b'{"cls": 1}'}, "has no entry 'label', only cls; set images.options.label_key"),
        ({"a.jpg": b"x", "a.json": b"[]"}, "its .json has no entry 'label'; set images.options.label_key"),
        ({"a.jpg": b"x", "a.json": b'{"label": true}'}, "is True, expected the number or the name of a class"),
        ({"a.jpg": b"x", "a.json": b'{"label": -1}'}, "is -1, expected the number or the name of a class"),
        ({"a.jpg": b"x", "a.txt": b"a photo of a cat " * 100}, "too many for a class; give images a .cls"),
        ({"a.jpg": b"x", "a.txt": b" " * (2**20 + 1)}, "has 1,048,577 bytes, more than the 1,048,576 that a label may"),
        ({"a" * 2000 + ".jpg": b"x"}, "has a name of 2,004 characters; shorten it"),
    ],
)  # fmt: skip
def test_samples_that_are_no_pair_are_refused(members: Any, sentence: str, tmp_path: Path) -> None:
    assert sentence in refusal(write_shard(tmp_path / "s.tar", members, tarfile.GNU_FORMAT))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
            "is no plain file but a link to '/etc/passwd'; write the",
        ),
        (
            {"type": tarfile.LNKTYPE, "linkname": "a.jpg"},
            "is no plain file but a link to 'a.jpg'; write the archive aga",
        ),
        ({"type": tarfile.FIFOTYPE}, "is no plain file but a device or the like"),
        (
            {"size": 2**40},
            "has 10,240 bytes, but its member 'b.jpg' claims 1,099,511,627,776 from byte 2,560; the arch",
        ),
    ],
)
def test_members_that_are_not_what_they_claim_are_refused(
    fields: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = write_shard(tmp_path / "s.tar", PAIR)
    with tarfile.open(path, "a", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(member("b.jpg", **fields))
    assert sentence in refusal(path)


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    """Its bytes are not where its image would be read."""
    path = write_shard(tmp_path / "s.tar", [])
    header = bytearray(member("a.jpg", size=512).tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"%011o\0%011o\0" % (512, 512)
    header[483:495] = b"%011o\0" % 1024
    header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:])
    path.write_bytes(bytes(header) + b"x" * 512 + b"\0" * 1024)
    assert "its member 'a.jpg' is no plain file but sparse; write the archive again with the files" in refusal(path)


def test_an_archive_that_is_cut_off_is_refused_at_every_byte(tmp_path: Path) -> None:
    whole = write_shard(tmp_path / "s.tar", {**PAIR, "b.png": b"x" * 1300, "b.cls": b"1"}).read_bytes()
    path = tmp_path / "cut.tar"
    end = len(whole.rstrip(b"\0"))
    for size in {*range(0, end, 97), *range(512, end, 512), end}:
        path.write_bytes(whole[:size])
        assert refusal(path)
    path.write_bytes(whole[: -(-end // 512) * 512])
    assert "stops without the mark of its end, so images may be missing" in refusal(path)


def test_packed_archives_and_other_files_are_refused(tmp_path: Path) -> None:
    for mode, name in (("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")):
        path = write_shard(tmp_path / "s.tar", PAIR, mode=mode)
        assert f"is packed with {name}, so that nothing in it can be read by its place; unpack it to .tar" in refusal(
            path
        )
    path.write_bytes(b"<!doctype html>" * 100)
    assert "s.tar is no tar archive, or is damaged (" in refusal(path)
    path.write_bytes(b"")
    assert refusal(path)


def test_archives_joined_by_cat_are_refused(tmp_path: Path) -> None:
    """Programs stop at the first mark of an end, so the images after it would be lost without a word."""
    path = write_shard(tmp_path / "s.tar", PAIR)
    path.write_bytes(2 * path.read_bytes())
    assert "goes on after the mark of its end, as if archives had been joined by cat" in refusal(path)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_archive_is_read_or_refused_in_one_sentence(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    members = {
        **PAIR,
        "b" * 120 + ".jpg": b"x" * 700,
        "b" * 120 + ".json": b'{"label": 1}',
        "é.png": b"y",
        "é.txt": b"cat",
    }
    path = write_shard(tmp_path_factory.mktemp("t") / "s.tar", members, tarfile.PAX_FORMAT)
    draw = random.Random(seed)
    path.write_bytes(any_bytes(path.read_bytes().rstrip(b"\0") + bytes(1024), draw))
    try:
        found = index_of(path)
    except DataError as error:
        assert "\n" not in str(error) and "s.tar" in str(error)
    else:
        assert all(row["start"] + row["size"] <= path.stat().st_size for row in found)


class Asked(io.BytesIO):
    """A file that remembers how much was asked of it."""

    largest = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None and size >= 0, "as much as there is"
        self.largest = max(self.largest, size)
        return super().read(size)


@pytest.mark.parametrize("claimed", [2**62, -512])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_cannot_fill_the_memory(claimed: int, kind: bytes, tmp_path: Path) -> None:
    """A long name, or one in the extended format, tells its own size."""
    path = write_shard(tmp_path / "s.tar", PAIR)
    whole = member("x", size=claimed, type=kind).tobuf(tarfile.GNU_FORMAT) + path.read_bytes()
    stream = Asked(whole)
    with pytest.raises(DataError, match=r"s\.tar is no tar archive, or is damaged \("):
        read_index(path, stream, len(whole), "label")
    assert stream.largest <= 2**20
