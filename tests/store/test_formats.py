"""docs/formats.md names the keys, files and arrays that the code writes, all of them and no others."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import releases
from formats_page import documented_meta, keys_of, names, section, tables
from kinds import KINDS, teacher, write_features

from dcpipe import store
from dcpipe.store.tensors import read_header
from dcpipe.store.whitening import WHITENING
from dcpipe.types import VIEW_ARRAYS, LabelPack, LabelShape, Score, StoredViews, ViewPolicy


def test_the_manifest(tmp_path: Path) -> None:
    content = json.loads((KINDS["pack"].publish(tmp_path).path / "artifact.json").read_text(encoding="utf-8"))
    assert keys_of(tables("Artifacts")[0]) == content.keys()
    assert content["schema"] == store.SCHEMA == 1
    named = {"schema": 1, "noun": content["noun"], "meta": content["meta"], "files": content["files"]}
    assert content["digest"] == store.digest_of(named)
    [record] = content["files"].values()
    assert record.keys() == {"bytes", "sha256"} and "" in content["arrays"]["labels.safetensors"]


def test_every_kind_of_artifact_has_a_row() -> None:
    rows = tables("Artifacts")[1]
    assert {names(row[0])[0] for row in rows} == {kind.kind for kind in KINDS.values()} | {"release"}


@pytest.mark.parametrize("name", ["image set", "teacher", "selection", "scores"])
def test_metadata_and_files_that_the_store_writes(name: str, tmp_path: Path) -> None:
    artifact = KINDS[name].publish(tmp_path)
    always, _ = documented_meta(artifact.kind)
    assert artifact.meta.keys() == always
    [files] = [names(row[2]) for row in tables("Artifacts")[1] if names(row[0]) == [artifact.kind]]
    assert artifact.files.keys() <= set(files)


def test_the_index_of_images_that_were_not_copied(tmp_path: Path) -> None:
    artifact = KINDS["image index"].publish(tmp_path)
    always, sometimes = documented_meta("images")
    assert artifact.meta.keys() - sometimes <= always and "source" in artifact.meta.keys() & sometimes
    for name in (*artifact.meta["source"], *pq.read_schema(artifact.path / "part-0.parquet").names):
        assert f"`{name}`" in section("Images"), name


def test_columns_of_the_parquet_files(tmp_path: Path) -> None:
    text = section("Images")
    store.save_set(tmp_path, releases.parts().images)
    schema = pq.read_schema(tmp_path / "images.parquet")
    assert schema.names == ["id", "image", "label"] and [field.name for field in schema.field("image").type] == [
        "bytes",
        "path",
    ]
    assert b"huggingface" in schema.metadata
    write_features(tmp_path)
    KINDS["selection"].write(tmp_path)
    picks, keys = (pq.read_schema(tmp_path / f"{name}.parquet").names for name in ("picks", "keys"))
    for column in {*schema.names, "bytes", "path", "huggingface", *picks, *keys, "rank"}:
        assert f"`{column}`" in text, column


def test_the_label_store(tmp_path: Path) -> None:
    text = section("The label store")
    blocks = store.create_blocks(tmp_path / "labels.zarr", (40, 32, 10), "float16")
    for block in blocks.missing():
        blocks.write(block, np.ones((2, 32, 10)))
    content = json.loads((tmp_path / "labels.zarr" / "zarr.json").read_text(encoding="utf-8"))
    [codec] = content["codecs"]
    assert (content["zarr_format"], content["data_type"], content["fill_value"]) == (3, "float16", 0)
    assert content["attributes"] == {} and f"`{codec['name']}`" in text and "`float16`" in text
    assert [inner["name"] for inner in codec["configuration"]["codecs"]] == ["bytes"], "no compressor"
    assert content["chunk_grid"]["configuration"]["chunk_shape"] == [2, 32, 10], "all views of some images"
    assert codec["configuration"]["chunk_shape"][1] == 16 and "at most 16 views" in text
    assert (tmp_path / "labels.zarr" / "c" / "19" / "0" / "0").is_file() and "`c/I/0/0`" in text


def test_the_files_and_metadata_of_soft_labels(tmp_path: Path) -> None:
    artifact = KINDS["soft labels"].publish(tmp_path)
    always, _ = documented_meta("softlabels")
    assert artifact.meta.keys() == always - {"method", "teacher_bytes"}, "which the stage adds"
    [files] = [names(row[2]) for row in tables("Artifacts")[1] if names(row[0]) == ["softlabels"]]
    assert {name.split("/")[0] for name in artifact.files} == set(files)
    text = section("The label store")
    assert "`ids.parquet`" in text and pq.read_schema(artifact.path / "ids.parquet").names == ["id"]


def test_the_header_of_a_pack(tmp_path: Path) -> None:
    some = releases.parts().pack
    assert some is not None
    store.save_pack(tmp_path / "labels.safetensors", some)
    header = read_header(tmp_path / "labels.safetensors")
    assert header.metadata.keys() == {"dcpipe"} and header.n_bytes % 256 == 0
    content = json.loads(header.metadata["dcpipe"])
    [table] = tables("Label packs")
    assert keys_of(table) == content.keys()
    cells = {names(row[0])[0]: set(names(row[1])) for row in table}
    assert content["shape"].keys() == cells["shape"]
    left_out = {field.name for field in fields(ViewPolicy)} - content["policy"].keys()
    assert left_out == cells["policy"]


def test_the_arrays_of_views_that_were_taken_elsewhere(tmp_path: Path) -> None:
    text = section("Label packs")
    arrays = {name: np.zeros((2, 3, *tail), dtype=dtype) for name, (tail, dtype) in VIEW_ARRAYS.items()}
    arrays["box"][..., 2:] = arrays["partner_box"][..., 2:] = 1
    law = StoredViews("cutmix_images", 8, arrays)
    logits = {"logits": np.zeros((2, 3, 5), dtype=np.float16)}
    store.save_pack(tmp_path / "p", LabelPack("none", {}, logits, LabelShape(2, 3, 5), law, np.arange(2)))
    header = read_header(tmp_path / "p")
    assert json.loads(header.metadata["dcpipe"])["policy"].keys() == {"mix", "size"}
    for name, entry in header.arrays.items():
        if name != "logits":
            tail = ", 4" if entry.shape[2:] == (4,) else ""
            assert f"`{name}` {np.dtype(VIEW_ARRAYS[name.removeprefix('view_')][1])} [n, K{tail}]" in text, name
    assert set(re.findall(r"`(view_[a-z_]+)`", text)) == header.arrays.keys() - {"logits"}


def test_the_folder_of_a_release(tmp_path: Path) -> None:
    some = releases.parts(grid=2)
    build = releases.build(tmp_path / "fish", replace(some, images=replace(some.images, by="cells")))
    files, meta, rows = tables("Releases")
    assert {path.name for path in build.path.iterdir()} | {WHITENING} == keys_of(files)
    assert keys_of(meta) == build.meta.keys() | {"view_bytes", "whitening"}
    plain = releases.build(tmp_path / "plain", releases.hard(releases.parts())).meta
    assert keys_of(meta) == plain.keys() | {"view_bytes", "by", "whitening"}
    assert releases.build(tmp_path / "whitened", releases.whitened()).meta.keys() == plain.keys() | {"whitening"}
    cells = {names(row[0])[0]: row[1] for row in meta}
    assert build.meta["labels"].keys() == set(names(cells["labels"]))
    assert build.meta["teacher"].keys() == store.save_teacher(tmp_path, teacher()).keys()
    assert keys_of(rows) == {field.name for field in fields(Score)}
    assert keys_of(rows) == json.loads((build.path / "scores.json").read_text(encoding="utf-8"))[0].keys()
