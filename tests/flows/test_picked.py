"""The logic that flows hold: finding picked rows, sorting by class, keeping to a budget, naming contenders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import CLASSES, IPC, SIZE, VIEWS, Parts, parts

from dcpipe import store
from dcpipe.compression import CODECS
from dcpipe.config import params, presets
from dcpipe.config.params import CompressionBlock
from dcpipe.dataset.targets import HardLabels, OnlineLabels, PackLabels
from dcpipe.store.images import encode_png
from dcpipe.types import DataError, EncodedImage, Features, ImageTable, LabelPack, LabelShape, Selection, ViewPolicy
from flows.compression import plan
from flows.evaluation import Contender, make_contenders
from flows.running.reporting import Plain
from flows.running.runtime import Run
from flows.selection import by_class
from flows.synthesis import picked

CPU = torch.device("cpu")

# --- synthesis: the picked images ---


def make_table(folder: Path, pixels: np.ndarray, labels: np.ndarray, ids: np.ndarray, part_rows: int) -> ImageTable:
    names = []
    for start in range(0, len(ids), part_rows):
        rows = [
            EncodedImage(int(ids[row]), encode_png(pixels[row]), f"{row}.png", int(labels[row]))
            for row in range(start, min(start + part_rows, len(ids)))
        ]
        names.append(folder / f"part-{start}.parquet")
        store.write_part(names[-1], rows, CLASSES)
    return ImageTable(tuple(names), part_rows, ids, labels, CLASSES, SIZE, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


@pytest.fixture(scope="module")
def table_pixels(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageTable, np.ndarray]:
    """20 images in 3 parts, whose ids are neither sorted nor positions."""
    source = np.random.default_rng(0)
    pixels = source.integers(0, 256, (20, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.tile(np.arange(len(CLASSES)), 7)[:20]
    return make_table(tmp_path_factory.mktemp("table"), pixels, labels, source.permutation(60)[:20], 8), pixels


@settings(deadline=None, max_examples=20)
@given(rows=st.lists(st.integers(0, 19), min_size=1, max_size=20, unique=True))
def test_picked_images_come_in_pick_order(rows: list[int], table_pixels: tuple[ImageTable, np.ndarray]) -> None:
    table, pixels = table_pixels
    chosen = Selection(table.ids[rows], table.labels[rows], np.zeros(len(rows)), "score")
    found = picked(table, chosen)
    assert np.array_equal(found.images, pixels[rows])
    assert found.ids.tolist() == table.ids[rows].tolist() and found.labels.tolist() == table.labels[rows].tolist()
    assert found.classes == CLASSES


@pytest.mark.parametrize("where", ["below", "between", "above"])
def test_picks_that_train_lacks_are_refused(where: str, table_pixels: tuple[ImageTable, np.ndarray]) -> None:
    table, _ = table_pixels
    absent = {
        "below": -1,
        "between": next(i for i in range(60) if i not in table.ids and table.ids.min() < i < table.ids.max()),
        "above": 1000,
    }
    chosen = Selection(np.array([table.ids[0], absent[where]]), np.array([0, 1]), np.zeros(2), "score")
    with pytest.raises(DataError, match=r"^selection names images that train lacks; run `dvc repro`$"):
        picked(table, chosen)


# --- selection: candidates sorted by class ---


@pytest.mark.parametrize("n", [1, 30, 8192 + 500])  # the last takes two blocks
def test_candidates_are_the_features_sorted_by_class(n: int, tmp_path: Path) -> None:
    source = np.random.default_rng(n)
    labels = source.integers(0, 4, n)
    features = Features(
        source.normal(size=(n, 3)).astype(np.float32),
        source.normal(size=(n, 5)).astype(np.float32),
        source.random(n),
        source.permutation(n),
        labels,
    )
    order, offsets = store.by_label(labels, 5)  # class 4 has no image
    found = by_class(features, order, offsets, tuple("abcde"), tmp_path)
    assert found.n_classes == 5 and found.offsets.dtype == np.int64 and found.offsets[-1] == found.offsets[-2] == n
    for label in range(5):
        rows = [row for row in range(n) if labels[row] == label]  # within a class, the table's order
        span = found.rows(label)
        for name in ("vectors", "logits", "label_rate"):
            assert np.array_equal(getattr(found, name)[span], getattr(features, name)[rows])
    assert isinstance(found.vectors, np.memmap) and found.vectors.dtype == np.float32
    assert found.called(4) == "'e'"


# --- compression: settings within a budget ---

SHAPE = LabelShape(12, 20, 30)


@pytest.mark.parametrize(
    ("block", "budget"),
    [
        (CompressionBlock(codec="svd", ratio=3.0), SHAPE.reference_bytes // 3),
        (CompressionBlock(codec="prune", ratio=4.0), SHAPE.reference_bytes // 4),
        (CompressionBlock(codec="prune", bytes_per_image=500.0), 6000),
        (CompressionBlock(codec="rpca", bytes_per_image=600.5), 7206),
    ],
)
def test_a_planned_pack_keeps_to_its_budget_on_disk(block: CompressionBlock, budget: int, tmp_path: Path) -> None:
    codec = plan(block, SHAPE, ViewPolicy())
    arrays = {name: np.zeros(shape, dtype=dtype) for name, (shape, dtype) in codec.specs(SHAPE).items()}
    pack = LabelPack(block.codec, codec.settings, arrays, SHAPE, ViewPolicy(), np.arange(12))
    size = store.save_pack(tmp_path / "labels.safetensors", pack)
    assert 0.6 * budget < size <= budget


def test_no_codec_needs_no_budget() -> None:
    codec = plan(CompressionBlock(codec="none"), SHAPE, ViewPolicy())
    assert codec.specs(SHAPE) == {"logits": ((12, 20, 30), "float16")}


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (CompressionBlock(codec="svdd", ratio=2.0), rf"^unknown codec 'svdd'; choose one of {', '.join(CODECS)}$"),
        (
            CompressionBlock(codec="none", options={"rank": 3}),
            r"^codec 'none' has no option 'rank'; legal ones are none: it takes no option$",
        ),
        (CompressionBlock(codec="svd", ratio=10_000.0), r"^codec 'svd': its arrays take at least \d+ bytes"),
    ],
)
def test_plans_that_cannot_be_are_refused(block: CompressionBlock, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        plan(block, SHAPE, ViewPolicy())


# --- evaluation: the contenders ---


@pytest.fixture
def line(scratch: Path) -> tuple[Run, dict[str, store.Artifact], ImageTable, Parts]:
    """Artifacts of a line that stops before evaluation, with a train split from which random images are drawn."""
    some = parts()
    assert some.pack is not None
    pack = some.pack
    folder = scratch.parent

    def artifact(noun: str, fill: object, meta: dict[str, object]) -> store.Artifact:
        staging = folder / f"{noun}-bench"
        staging.mkdir()
        extra = fill(staging)
        return store.publish(staging, folder / noun, noun, {**meta, **(extra if isinstance(extra, dict) else {})}, {})

    def fill_labels(staging: Path) -> None:
        blocks = store.create_blocks(staging / "labels.zarr", pack.arrays["logits"].shape, "float16")
        for block in blocks.missing():
            blocks.write(block, pack.arrays["logits"][blocks.span(block)])

    labels_meta = {
        "method": "stored",
        "policy": {name: getattr(pack.policy, name) for name in pack.policy.__dataclass_fields__},
        "ids": pack.ids.tolist(),
        "classes": list(CLASSES),
        "teachers": ["main"],
    }
    inputs = {
        "synthesis": artifact("synthesis", lambda staging: store.save_set(staging, some.images), {}),
        "softlabels": artifact("softlabels", fill_labels, labels_meta),
        "compression": artifact(
            "compression", lambda staging: {"bytes": store.save_pack(staging / "labels.safetensors", pack)}, {}
        ),
        "teacher main": artifact("teacher", lambda staging: store.save_teacher(staging, some.teacher), {}),
    }
    source = np.random.default_rng(5)
    labels = np.repeat(np.arange(3), 6)
    pixels = source.integers(0, 256, (18, SIZE, SIZE, 3), dtype=np.uint8)
    table = make_table(folder, pixels, labels, source.permutation(500)[:18], 18)
    whole = params.parse(yaml.safe_load(presets.text("digits")))
    updates = {
        "teacher": whole.teacher.model_copy(update={"networks": {"main": params.TeacherNetwork(network="x")}}),
        "softlabels": whole.softlabels.model_copy(update={"teachers": ["main"], "views": VIEWS, "mix": "none"}),
        "selection": params.SelectionBlock(method="score", ipc=IPC),
        "compression": CompressionBlock(codec="none"),
    }
    return Run("evaluation", whole.model_copy(update=updates), Plain("evaluation"), device=CPU), inputs, table, some


def contenders(
    line: tuple[Run, dict[str, store.Artifact], ImageTable, Parts], notes: Path, **changes: dict[str, object]
) -> list[Contender]:
    run, inputs, table, _ = line
    blocks = {name: getattr(run.params, name).model_copy(update=update) for name, update in changes.items()}
    notes.mkdir(exist_ok=True)
    return make_contenders(replace(run, params=run.params.model_copy(update=blocks)), inputs, table, notes)


def test_the_set_comes_first_and_every_row_says_what_it_weighs(
    line: tuple[Run, dict[str, store.Artifact], ImageTable, Parts], tmp_path: Path
) -> None:
    _, inputs, table, some = line
    everything = ["random", "uncompressed", "online", "hard"]
    rows = contenders(line, tmp_path / "notes", evaluation={"baselines": everything})
    assert [(row.kind, row.name) for row in rows] == [
        ("own", "score, none"),
        ("uncompressed", "score, uncompressed"),
        ("online", "score, teacher online"),
        ("hard", "score, hard labels"),
        ("random", "random, none"),
    ]
    own, uncompressed, online, hard, random = rows
    on_disk = {name: artifact.path for name, artifact in inputs.items()}
    assert own.image_bytes == (on_disk["synthesis"] / "images.parquet").stat().st_size
    assert own.label_bytes == (on_disk["compression"] / "labels.safetensors").stat().st_size > 0
    assert uncompressed.label_bytes == (tmp_path / "notes" / "uncompressed.safetensors").stat().st_size
    assert online.teacher_bytes == (on_disk["teacher main"] / "weights.safetensors").stat().st_size > 0
    assert (online.label_bytes, hard.label_bytes, hard.teacher_bytes, own.teacher_bytes) == (0, 0, 0, 0)
    kinds = [type(row.labels()) for row in rows]
    assert kinds == [PackLabels, PackLabels, OnlineLabels, HardLabels, PackLabels]
    assert all(row.images is own.images for row in rows[:4])
    assert np.array_equal(own.images.images, some.images.images)
    # As many random images as the set has, in rounds of one a class, all of train, and labelled for themselves.
    assert random.images.labels.tolist() == list(range(3)) * IPC
    assert np.isin(random.images.ids, table.ids).all()
    pack = random.labels()
    assert isinstance(pack, PackLabels) and pack.pack.ids.tolist() == random.images.ids.tolist()


def test_contenders_are_those_asked_for(
    line: tuple[Run, dict[str, store.Artifact], ImageTable, Parts], tmp_path: Path
) -> None:
    rows = contenders(line, tmp_path / "a", evaluation={"baselines": ["hard"]}, synthesis={"method": "dm"})
    assert [row.name for row in rows] == ["dm, none", "dm, hard labels"]
    rows = contenders(line, tmp_path / "b", evaluation={"baselines": ["random"]}, softlabels={"method": "none"})
    assert [(row.kind, row.name) for row in rows] == [("hard", "score, hard labels"), ("random", "random, hard labels")]
    assert [type(row.labels()) for row in rows] == [HardLabels, HardLabels]
    rows = contenders(line, tmp_path / "c", evaluation={"baselines": []}, softlabels={"method": "none"})
    assert [row.kind for row in rows] == ["hard"]
