"""Zarr arrays filled shard by shard: any order gives the same bytes, and nothing infinite gets in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import KINDS
from targets import resign, sign

from dcpipe import store
from dcpipe.store import blocks as module
from dcpipe.types import DataError


def values_of(shape: tuple[int, ...], dtype: str = "float16") -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def bytes_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(4)))
def test_any_write_order_gives_the_same_bytes(order: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    values = values_of((13, 6, 5))
    written = []
    for blocks_in in (range(4), order):
        blocks = store.create_blocks(tmp_path_factory.mktemp("blocks") / "a", values.shape, "float16", rows=4)
        for block in blocks_in:
            blocks.write(block, values[blocks.span(block)])
        written.append(bytes_of(blocks.path))
    assert written[0] == written[1]
    np.testing.assert_array_equal(store.open_blocks(blocks.path)[:], values)


def test_golden_bytes(tmp_path: Path) -> None:
    """Label stores of published workspaces must open for ever: their bytes are pinned, index and checksums too."""
    values = np.arange(5 * 4 * 3, dtype=np.float16).reshape(5, 4, 3)
    blocks = store.create_blocks(tmp_path / "a", values.shape, "float16", rows=2)
    for block in range(3):
        blocks.write(block, values[blocks.span(block)])
    found = bytes_of(blocks.path)
    assert sorted(found) == ["c/0/0/0", "c/1/0/0", "c/2/0/0", "zarr.json"]
    digest = hashlib.sha256(b"".join(found[name] for name in sorted(found) if name != "zarr.json")).hexdigest()
    assert digest == "24a5ff2fcab77cff962f03ab920b1c36be653e354df3144c417fbc70a9cb6af3"


@pytest.mark.parametrize("shape", [(9,), (9, 4), (9, 4, 3)])
def test_shards_are_missing_until_written(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.zeros(shape, np.float32)  # even empty chunks are written
    blocks = store.create_blocks(tmp_path / "a", shape, "float32", rows=4)
    assert len(blocks) == 3 and blocks.missing() == [0, 1, 2]
    assert [blocks.span(block) for block in range(3)] == [slice(0, 4), slice(4, 8), slice(8, 9)]
    for block in (2, 0):
        blocks.write(block, values[blocks.span(block)])
    again = store.create_blocks(tmp_path / "a", shape, "float32", rows=4)
    assert again.missing() == [1]
    again.write(1, values[again.span(1)])
    assert again.missing() == [] and not list((tmp_path / "a").rglob("*.partial"))
    assert store.open_blocks(tmp_path / "a").shape == shape


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_its_row(value: float, tmp_path: Path) -> None:
    blocks = store.create_blocks(tmp_path / "labels.zarr", (8, 3, 2), "float16", rows=4)
    values = values_of((4, 3, 2))
    values[2, 1, 0] = value
    with pytest.raises(DataError) as error:
        blocks.write(1, values)
    assert str(error.value) == "labels.zarr: row 6 contains NaN or infinity; check the teacher and its inputs"
    assert blocks.missing() == [0, 1]


def test_a_value_that_overflows_the_stored_type_is_refused_too(tmp_path: Path) -> None:
    blocks = store.create_blocks(tmp_path / "labels.zarr", (2, 3, 2), "float16", rows=2)
    values = np.zeros((2, 3, 2), np.float32)
    values[1, 0, 0] = 70_000.0  # fp16 ends at 65,504
    with pytest.raises(DataError, match=r"^labels\.zarr: row 1 contains NaN or infinity; "):
        blocks.write(0, values)


def test_a_shard_of_another_shape_is_refused(tmp_path: Path) -> None:
    blocks = store.create_blocks(tmp_path / "labels.zarr", (6, 3), "float32", rows=4)
    with pytest.raises(DataError) as error:
        blocks.write(1, np.zeros((4, 3), np.float32))  # the last shard has two rows
    assert str(error.value) == "labels.zarr: shard 1 has shape [4, 3]"


def test_a_folder_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        store.open_blocks(tmp_path / "a")
    assert str(error.value) == f"{tmp_path / 'a'} is not a Zarr array; run `dvc repro` to make it"


@settings(deadline=None, max_examples=60)
@given(shape=st.lists(st.integers(1, 3000), min_size=1, max_size=3), itemsize=st.sampled_from([2, 4, 8]))
def test_shards_are_powers_of_two_of_bounded_size(shape: list[int], itemsize: int) -> None:
    rows = module.shard_rows(tuple(shape), itemsize)
    assert rows >= 1 and rows & (rows - 1) == 0
    assert rows == 1 or rows * itemsize * int(np.prod(shape[1:])) <= module.SHARD_BYTES
    assert rows <= -(-shape[0] // 16), "too few shards to resume by"


def test_the_paper_sized_store_has_the_designed_layout() -> None:
    """ImageNet-1K at 10 images per class and 300 views: shards of 32-64 MiB, chunks of at most 384 KiB."""
    shape = (10_000, 300, 1000)
    rows = module.shard_rows(shape, 2)
    assert 32 * 2**20 <= rows * 300 * 1000 * 2 <= 64 * 2**20
    inner = module._inner(shape, rows, 2)
    assert inner[1] <= 16 and 300 % inner[1] == 0 and inner[2] == 1000
    assert inner[0] * inner[1] * inner[2] * 2 <= module.CHUNK_BYTES


def test_a_shard_is_forced_to_disk_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished shard is known by its file's name, which a power cut must not leave empty."""
    synced: list[Path] = []
    monkeypatch.setattr("dcpipe.store.blocks.sync", synced.append)
    blocks = store.create_blocks(tmp_path / "a", (8, 3), "float32", rows=2)
    blocks.write(3, np.ones((2, 3), np.float32))
    assert synced == [tmp_path / "a" / "c" / "3" / "0"] and synced[0].stat().st_size > 0


# --- arrays of strangers ---


def described(out: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """What is said of features whose vectors.zarr is described otherwise, in a manifest that vouches for it."""
    path = out / "vectors.zarr/zarr.json"
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    resign(out)
    with pytest.raises(DataError) as error:
        store.load_features(out)
    return str(error.value).replace(f"{out}/", "")


DESCRIPTIONS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no shape": (lambda meta: meta.__delitem__("shape"), "zarr.json is damaged (shape: Field required)"),
    "shape of text": (lambda meta: meta.update(shape=["4", 5]), "zarr.json is damaged (shape.0: Input should be a val"),
    "a trillion rows": (
        lambda meta: meta.update(shape=[10**12, 5]),
        "vectors.zarr has 2 files, expected 500,000,000,000 shards",
    ),
    "wide rows": (lambda meta: meta.update(shape=[4, 10**11]), "files, expected "),
    "wide shards": (
        lambda meta: (meta.update(shape=[4, 10**9]), grid(meta).update(chunk_shape=[2, 10**9])),
        "too few for shape [4, 1000000000] in shards of [2, 1000000000]",
    ),
    "long shards": (lambda meta: grid(meta).update(chunk_shape=[10**9, 5]), "zarr has 2 files, expected 1 shards"),
    "shards of nothing": (lambda meta: grid(meta).update(chunk_shape=[0, 5]), "chunk_shape.0: Input should be greater"),
    "three dimensions": (
        lambda meta: (meta.update(shape=[4, 5, 1]), grid(meta).update(chunk_shape=[2, 5, 1])),
        "zarr has shape [4, 5, 1] in shards of [2, 5, 1], expected 2 dimensions",
    ),
    "another dtype": (
        lambda meta: meta.update(data_type="uint8"),
        "data_type: Input should be 'float16', 'float32' or",
    ),
    "objects": (lambda meta: meta.update(data_type="object"), "data_type: Input should be"),
    "a compressor": (
        lambda meta: meta["codecs"][0]["configuration"]["codecs"].append({"name": "gzip", "configuration": {}}),
        "vectors.zarr is packed by ['gzip'], which dcpipe does not write",
    ),
    "another grid": (
        lambda meta: meta["chunk_grid"].update(name="rectangular"),
        "chunk_grid.name: Input should be 'reg",
    ),
    "a group": (lambda meta: meta.update(node_type="group"), "node_type: Input should be 'array'"),
    "version 2": (lambda meta: meta.update(zarr_format=2), "zarr_format: Input should be 3"),
}


def grid(meta: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = meta["chunk_grid"]["configuration"]
    return found


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_descriptions_of_arrays_are_checked_before_they_are_read(case: str, tmp_path: Path) -> None:
    change, sentence = DESCRIPTIONS[case]
    told = described(KINDS["features"].publish(tmp_path).path, change)
    assert sentence in told and told.startswith("vectors.zarr") and "\n" not in told


def test_every_shard_is_listed_and_no_other(tmp_path: Path) -> None:
    """A missing shard would read as zeros."""
    out = KINDS["features"].publish(tmp_path).path
    shard = out / "vectors.zarr/c/1/0"
    content = json.loads((out / "artifact.json").read_bytes())
    record = content["files"].pop("vectors.zarr/c/1/0")
    sign(out / "artifact.json", content)
    with pytest.raises(DataError, match=r"vectors.zarr has 1 files, expected 2 shards of shape \[2, 5\]; remove"):
        store.load_features(out)
    for name in ("01/0", "2/0", "1/1", "x/0", "\u0661/0"):
        path = out / "vectors.zarr/c" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(shard.read_bytes())
        sign(out / "artifact.json", {**content, "files": {**content["files"], f"vectors.zarr/c/{name}": record}})
        with pytest.raises(DataError, match=r"vectors.zarr has 2 files, expected 2 shards"):
            store.load_features(out)


@pytest.mark.parametrize(
    ("shape", "dtype", "rows"),
    [
        ((1291, 64), "float32", 2048),
        ((5000, 33), "float32", 2048),
        ((30, 8, 10), "float16", None),
        ((100, 100, 7), "float16", None),
        ((37, 17, 5), "float16", None),
        ((1291,), "float64", 2048),
    ],
)
def test_the_size_of_an_array_is_known_before_it_is_made(
    shape: tuple[int, ...], dtype: str, rows: int | None, tmp_path: Path
) -> None:
    blocks = store.create_blocks(tmp_path / "a.zarr", shape, dtype, rows)
    for block in range(len(blocks)):
        span = blocks.span(block)
        blocks.write(block, np.ones((span.stop - span.start, *shape[1:]), dtype=dtype))
    files = [path for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()]
    shards = sum(path.stat().st_size for path in files if path.name != "zarr.json")
    assert store.array_size(shape, dtype, rows) == (shards + module.DESCRIPTION_BYTES, len(files))
    assert abs((tmp_path / "a.zarr" / "zarr.json").stat().st_size - module.DESCRIPTION_BYTES) < 100


def test_another_process_may_create_it_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zarr"
    first = store.create_blocks(path, (4, 3), "float32", rows=2)
    first.array[:2] = 1.0
    looked = Path.exists

    def not_yet(place: Path) -> bool:
        return place.name != "zarr.json" and looked(place)

    monkeypatch.setattr(Path, "exists", not_yet)  # it is created just after this process has looked
    second = store.create_blocks(path, (4, 3), "float32", rows=2)
    assert second.array[:].tolist() == first.array[:].tolist()
