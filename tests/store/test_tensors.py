"""Our safetensors writer against the library's reader, and its padded header."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from dcpipe import store
from dcpipe.store import tensors
from dcpipe.types import DataError

OUTSIDE = "array 'a' lies outside the file"
DTYPES = ["float16", "float32", "int8", "uint8", "uint16", "int32", "int64"]
ARRAYS = st.dictionaries(
    st.text("abcxyz_.", min_size=1, max_size=6),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), min_size=1, max_size=3)),
    max_size=5,
)


def made(specs: dict[str, tuple[str, list[int]]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 100, shape).astype(dtype) for name, (dtype, shape) in specs.items()}


@settings(deadline=None, max_examples=50)
@given(specs=ARRAYS, step=st.sampled_from([1, 7, 2**26]))
def test_the_library_reads_what_is_written(
    specs: dict[str, tuple[str, list[int]]], step: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arrays = made(specs)
    path = tmp_path_factory.mktemp("t") / "x.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "_COPY_BYTES", step)  # rows one by one, or all at once
        size = tensors.write(path, arrays, {"k": "v"})
    assert size == path.stat().st_size
    found = load_file(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    again, metadata = tensors.read(path)
    assert metadata == {"k": "v"} and again.keys() == arrays.keys()


@settings(deadline=None, max_examples=50)
@given(specs=ARRAYS, note=st.text(max_size=600))
def test_headers_are_padded_aligned_and_predict_the_size(specs: dict[str, tuple[str, list[int]]], note: str) -> None:
    shapes = {name: (tuple(shape), dtype) for name, (dtype, shape) in specs.items()}
    head = store.header_bytes(shapes, {"note": note})
    assert len(head) % tensors.HEADER_STEP == 0
    assert int.from_bytes(head[:8], "little") == len(head) - 8
    content = json.loads(head[8:])
    assert content.pop("__metadata__") == {"note": note}
    offset = 0
    for name, entry in sorted(content.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        itemsize = np.dtype(shapes[name][1]).itemsize
        assert start == offset and start % itemsize == 0
        assert end - start == itemsize * int(np.prod(shapes[name][0]))
        offset = end


def test_sources_may_lie_on_disk_or_out_of_order(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.float32).reshape(10, 6)
    disk = zarr.create_array(tmp_path / "z", shape=values.shape, chunks=(3, 6), dtype="float32")
    disk[:] = values
    np.save(tmp_path / "m.npy", values)
    mapped = np.load(tmp_path / "m.npy", mmap_mode="r")
    sizes = {
        name: tensors.write(tmp_path / f"{name}.safetensors", {"a": source}, {})
        for name, source in {
            "zarr": disk,
            "map": mapped,
            "memory": values,
            "fortran": np.asfortranarray(values),
        }.items()
    }
    contents = {(tmp_path / f"{name}.safetensors").read_bytes() for name in sizes}
    assert len(contents) == 1
    assert not list(tmp_path.glob("*.partial"))


def test_golden_file(tmp_path: Path) -> None:
    """A pack of version 0.1.0 as bytes, header and all."""
    path = tmp_path / "x.safetensors"
    tensors.write(path, {"b": np.array([[1, 2]], np.uint8), "a": np.array([1.5, -2.0], np.float16)}, {"k": "v"})
    header = (
        b'{"__metadata__":{"k":"v"},"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},'
        b'"b":{"dtype":"U8","shape":[1,2],"data_offsets":[4,6]}}'
    )
    expected = (248).to_bytes(8, "little") + header.ljust(248) + b"\x00\x3e\x00\xc0\x01\x02"
    assert path.read_bytes() == expected


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_what_is_not_safetensors_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as error:
        tensors.read(path)
    sentence = str(error.value)
    assert sentence.startswith(f"{path} cannot be read as safetensors (") and sentence.endswith("); pull or rebuild it")


# --- headers alone ---


def test_a_header_says_where_every_byte_is(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    arrays = {"b": np.arange(6, dtype=np.uint8).reshape(2, 3), "a": np.array([1.5, -2.0], np.float16)}
    size = tensors.write(path, arrays, {"k": "v"})
    header = tensors.read_header(path)
    whole = path.read_bytes()
    assert header.metadata == {"k": "v"} and header.sha256 == hashlib.sha256(whole[: header.n_bytes]).hexdigest()
    assert header.arrays["b"].shape == (2, 3) and header.arrays["b"].dtype == "U8"
    for name, array in arrays.items():
        entry = header.arrays[name]
        assert whole[entry.start : entry.stop] == array.tobytes() and entry.n_bytes == array.nbytes
    assert header.n_bytes + sum(entry.n_bytes for entry in header.arrays.values()) == size


def test_hashes_of_arrays_are_of_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    array = np.arange(1000, dtype=np.int32)
    tensors.write(path, {"a": array}, {})
    monkeypatch.setattr(tensors, "_COPY_BYTES", 64)
    found = tensors.hash_arrays(path)
    assert found == {"": tensors.read_header(path).sha256, "a": hashlib.sha256(array.tobytes()).hexdigest()}


def with_header(text: bytes, length: int | None = None, after: bytes = b"") -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text + after


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "its header is longer than the file"),
        (b"\x00" * 7, "its header is longer than the file"),
        (with_header(b"{}", length=3), "its header is longer than the file"),
        (with_header(b"{}", length=2**63), "its header is longer than the file"),
        (with_header(b"{"), "Expecting property name"),
        (with_header(b"\xff{}"), "'utf-8' codec can't decode"),
        (with_header(b"[]"), ""),
        (with_header(b"[" * 100_000), ""),
        (with_header(b'{"a": 3}'), ""),
        (with_header(b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}'), ""),
        (with_header(b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, Infinity]}}'), ""),
        (with_header(b'{"a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}', after=b"8 bytes!"), OUTSIDE),
        (with_header(b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [-1, 0]}}', after=b"8 bytes!"), OUTSIDE),
        (with_header(b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [2, 1]}}', after=b"8 bytes!"), OUTSIDE),
    ],
)
def test_headers_that_promise_what_is_not_there_are_refused(content: bytes, why: str, tmp_path: Path) -> None:
    """However much memory a length asks for, no more is read than the file has."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    for read in (tensors.read_header, tensors.hash_arrays):
        with pytest.raises(DataError) as error:
            read(path)
        sentence = str(error.value)
        assert sentence.startswith(f"{path} cannot be read as safetensors ({why}")
        assert sentence.endswith("); pull or rebuild it")


def test_the_header_of_arrays_beyond_any_disk_counts_their_bytes_exactly() -> None:
    header = tensors.header_bytes({"a": ((2**31, 2**31, 10), "float16")}, {})
    assert json.loads(header[8:])["a"]["data_offsets"] == [0, 20 * 2**62]
