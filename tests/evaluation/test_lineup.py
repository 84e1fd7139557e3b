"""The contenders of the evaluation: the set first, every requested baseline, their sizes, rows and curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from image_tables import write_table
from releases import CLASSES, IPC, SIZE, VIEWS, Parts, parts

from dcpipe import store
from dcpipe.config import params, presets
from dcpipe.config.params import CompressionBlock, Params
from dcpipe.dataset.stored_labels import StoredLabels
from dcpipe.dataset.targets import HardLabels, OnlineLabels, PackLabels
from dcpipe.evaluation import lineup
from dcpipe.evaluation.contenders import Contender, Labeller
from dcpipe.evaluation.lineup import Lineup, SoftLabelled
from dcpipe.evaluation.students import protocol_of
from dcpipe.store import encoding
from dcpipe.types import ImageTable, Score, SoftLabels, run_in_turn
from dcpipe.views.whitening import fit

CPU = torch.device("cpu")
WHOLE = params.parse(yaml.safe_load(presets.text("digits")))
TEACHER_BYTES = 4321


def params_of(**changes: dict[str, object]) -> Params:
    base: dict[str, dict[str, object]] = {
        "softlabels": {"teachers": ["main"], "views": VIEWS, "mix": "none"},
        "selection": {"method": "score", "ipc": IPC},
        "evaluation": {"baselines": ["random", "uncompressed", "online", "hard"]},
    }
    blocks = {
        name: getattr(WHOLE, name).model_copy(update={**base.get(name, {}), **changes.get(name, {})})
        for name in {*base, *changes}
    }
    return WHOLE.model_copy(update={**blocks, "compression": CompressionBlock(codec="none")})


@pytest.fixture(scope="module")
def some() -> Parts:
    return parts()


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    """18 real images to draw random ones from."""
    source = np.random.default_rng(5)
    pixels = source.integers(0, 256, (18, SIZE, SIZE, 3), dtype=np.uint8)
    ids = source.permutation(500)[:18]
    return write_table(tmp_path_factory.mktemp("train"), pixels, np.repeat(np.arange(3), 6), ids, 18, CLASSES)


def contenders(some: Parts, train: ImageTable, folder: Path, **changes: dict[str, object]) -> list[Contender]:
    own = params_of(**changes)
    pack = some.pack
    assert pack is not None
    logits = pack.arrays["logits"][:].reshape(pack.shape.images, VIEWS, len(CLASSES))
    labels = SoftLabels(logits, pack.policy, pack.ids, CLASSES, ("main",))
    stored = SoftLabelled(pack, labels, {"main": some.teacher}, TEACHER_BYTES)
    return Lineup(
        params=own,
        method=lineup.method_of(own),
        images=some.images,
        image_file=store.Notes(folder).within("own").image_file(some.images),
        labels=None if own.softlabels.method == "none" else stored,
        train=train,
        labeller=Labeller(own.softlabels, own.compression, CPU, run_in_turn),
        notes=store.Notes(folder),
    ).contenders()


def test_the_set_comes_first_and_every_row_has_its_sizes(some: Parts, train: ImageTable, tmp_path: Path) -> None:
    rows = contenders(some, train, tmp_path)
    assert [(row.kind, row.name) for row in rows] == [
        ("own", "score, none"),
        ("uncompressed", "score, uncompressed"),
        ("online", "score, teacher online"),
        ("hard", "score, hard labels"),
        ("random", "random, none"),
    ]
    own, uncompressed, online, hard, random = rows
    assert some.pack is not None
    assert (own.image_bytes, own.label_bytes) == ((tmp_path / "own/images.parquet").stat().st_size, some.pack.n_bytes)
    assert uncompressed.label_bytes == store.save_pack(tmp_path / "none.safetensors", some.pack)
    assert online.teacher_bytes == TEACHER_BYTES
    assert (online.label_bytes, hard.label_bytes, hard.teacher_bytes, own.teacher_bytes) == (0, 0, 0, 0)
    kinds = [type(row.labels()) for row in rows]
    assert kinds == [PackLabels, StoredLabels, OnlineLabels, HardLabels, PackLabels]
    assert all(row.images is some.images for row in rows[:4])
    # As many random images as the set has, in rounds of one per class, all of train, and labelled for themselves.
    assert random.images.labels.tolist() == list(range(3)) * IPC
    assert np.isin(random.images.ids, train.ids).all()
    pack = random.labels()
    assert isinstance(pack, PackLabels) and pack.pack.ids.tolist() == random.images.ids.tolist()


def test_rows_of_a_whitened_set_count_the_transform(some: Parts, train: ImageTable, tmp_path: Path) -> None:
    """But the random images in equal bytes, which are normalised, spend its bytes on themselves."""
    store.save_whitening(tmp_path, fit(torch.from_numpy(some.images.images), 0.1).stored())
    file, own = (
        tmp_path / "whitening.safetensors",
        params_of(softlabels={"method": "none"}, evaluation={"baselines": ["random", "equal_bytes"], "sizes": [2]}),
    )
    notes = store.Notes(tmp_path)
    plain, rows = (
        {
            row.kind: row
            for row in Lineup(
                params=own,
                method="mtt",
                images=some.images,
                image_file=notes.within("own").image_file(some.images),
                labels=None,
                train=train,
                labeller=Labeller(own.softlabels, own.compression, CPU, run_in_turn),
                notes=notes.within(f"{whitening is None}"),
                whitening=whitening,
            ).contenders()
        }
        for whitening in (None, file)
    )
    assert [*rows] == ["hard", "hard 2", "random", "random 2", "equal_bytes"] and [*plain] == [*rows]
    for kind in ("hard", "hard 2", "random", "random 2"):
        assert rows[kind].whitening == file
        assert rows[kind].image_bytes == plain[kind].image_bytes + file.stat().st_size, kind
    equal = rows["equal_bytes"]
    assert equal.whitening is None and equal.ipc == 6 > plain["equal_bytes"].ipc
    assert equal.image_bytes <= rows["hard"].image_bytes


def test_contenders_are_those_requested(some: Parts, train: ImageTable, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    rows = contenders(some, train, tmp_path / "a", evaluation={"baselines": ["hard"]}, synthesis={"method": "dm"})
    assert [row.name for row in rows] == ["dm, none", "dm, hard labels"]
    hard = {"method": "none"}
    rows = contenders(some, train, tmp_path / "b", evaluation={"baselines": ["random"]}, softlabels=hard)
    assert [(row.kind, row.name) for row in rows] == [("hard", "score, hard labels"), ("random", "random, hard labels")]
    assert [type(row.labels()) for row in rows] == [HardLabels, HardLabels]
    rows = contenders(some, train, tmp_path / "c", evaluation={"baselines": []}, softlabels=hard)
    assert [row.kind for row in rows] == ["hard"]


def test_equal_bytes_are_as_many_random_images_as_fit_in_the_set_with_its_labels(
    some: Parts, train: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation: dict[str, object] = {"baselines": ["equal_bytes"]}
    assert some.pack is not None
    weighed = replace(some, pack=replace(some.pack, n_bytes=2000))
    own, equal = contenders(weighed, train, tmp_path, evaluation=evaluation)
    budget = own.image_bytes + own.label_bytes
    assert equal.name == "random, hard labels, equal bytes" and equal.has_hard_labels
    assert IPC < equal.ipc <= 6 and equal.image_bytes <= budget, "labels have become images"
    if equal.ipc < 6:
        assert equal.image_bytes * (equal.ipc + 2) / equal.ipc > budget, "and no place is left for two more per class"
    assert equal.images.labels.tolist() == list(range(3)) * equal.ipc
    assert equal.image_bytes == (tmp_path / f"equal_bytes-{equal.ipc}/images.parquet").stat().st_size
    # A set that is smaller than one random image per class has no such row.
    (tmp_path / "b").mkdir()
    monkeypatch.setattr(store.Notes, "image_bytes", lambda self, images: 10**9)
    assert len(contenders(weighed, train, tmp_path / "b", evaluation=evaluation)) == 1


def test_without_teachers_there_are_no_rows_that_need_them(some: Parts, train: ImageTable, tmp_path: Path) -> None:
    pack = some.pack
    assert pack is not None
    own = params_of()
    rows = Lineup(
        params=own,
        method="mine",
        images=some.images,
        image_file=store.Notes(tmp_path).within("own").image_file(some.images),
        labels=SoftLabelled(pack, None, {}, 0),
        train=train,
        labeller=Labeller(own.softlabels, own.compression, CPU, run_in_turn),
        notes=store.Notes(tmp_path),
    ).contenders()
    assert [row.name for row in rows] == ["mine, none", "mine, hard labels", "random, hard labels"]
    assert [row.has_hard_labels for row in rows] == [False, True, True]


def test_smaller_sizes_follow_the_set_and_random_images(some: Parts, train: ImageTable, tmp_path: Path) -> None:
    rows = contenders(some, train, tmp_path, evaluation={"baselines": ["random", "hard"], "sizes": [IPC, 2, 1]})
    assert [(row.kind, row.part_of, row.ipc) for row in rows] == [
        ("own", "", IPC),
        ("own 1", "own", 1),
        ("own 2", "own", 2),
        ("hard", "", IPC),
        ("random", "", IPC),
        ("random 1", "random", 1),
        ("random 2", "random", 2),
    ]
    assert np.array_equal(rows[2].images.images, some.images.prefix(2).images)


def test_images_are_encoded_once_and_not_again_by_a_resumed_run(
    some: Parts, train: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.Notes(tmp_path).within("own").image_file(some.images)  # by the synthesis
    encoded, encode = list[int](), encoding.encode_png
    monkeypatch.setattr(encoding, "encode_png", lambda image: encoded.append(1) or encode(image))
    evaluation = {"baselines": ["random", "hard"], "sizes": [IPC, 2, 1]}
    first = contenders(some, train, tmp_path, evaluation=evaluation)
    assert len(encoded) == IPC * len(CLASSES), "the random images, each once"
    again = contenders(some, train, tmp_path, evaluation=evaluation)
    assert len(encoded) == IPC * len(CLASSES)
    assert [row.image_bytes for row in again] == [row.image_bytes for row in first]
    assert sorted(path.parent.name for path in tmp_path.rglob("images.parquet")) == ["own", "random"]


def test_scores_at_each_size_are_of_the_set_and_of_random_images(
    some: Parts, train: ImageTable, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    evaluation = {"baselines": ["random", "hard"], "sizes": [2, IPC]}
    rows = contenders(some, train, tmp_path / "a", evaluation=evaluation)
    scores = [Score(row.name, "score", "net", row.ipc, (float(i),), 1, 1) for i, row in enumerate(rows)]
    found = {whole.name: own for whole, own in lineup.at_each_size(rows, scores, params_of(evaluation=evaluation))}
    assert {name: [(s.ipc, s.accuracy[0]) for s in own] for name, own in found.items()} == {
        "score, none": [(IPC, 0.0), (2, 1.0)],
        "random, none": [(IPC, 3.0), (2, 4.0)],
    }
    [(_, without)] = lineup.at_each_size(rows[:1], scores[:1], params_of())
    assert [s.ipc for s in without] == [IPC], "at its own size where none is listed"


def test_a_score_is_what_its_students_reached(some: Parts, train: ImageTable, tmp_path: Path) -> None:
    own, block = params_of(), params_of().evaluation
    [first, *_] = contenders(some, train, tmp_path)
    outcomes = [{"accuracy": value, "history": []} for value in (50.0, 52.5, 49.0)]
    score = lineup.score_of(first, outcomes, protocol_of(block, own.softlabels), block)
    assert (score.name, score.ipc, score.accuracy) == ("score, none", IPC, (50.0, 52.5, 49.0))
    assert (score.image_bytes, score.label_bytes) == (first.image_bytes, first.label_bytes)
    assert (score.student, score.epochs) == (block.student, block.epochs)
    assert score.protocol.startswith("score")


def test_curves_are_means_over_students() -> None:
    def outcome(*losses: float) -> dict[str, Any]:
        return {"accuracy": 1.0, "history": [{"epoch": e, "loss": loss} for e, loss in enumerate(losses)]}

    several = lineup.learning_curve("own", "kl", [outcome(4.0, 2.0), outcome(2.0, 1.0)])
    assert several == [
        {"set": "own", "loss": "kl", "epoch": 0, "mean": 3.0, "std": pytest.approx(2**0.5)},
        {"set": "own", "loss": "kl", "epoch": 1, "mean": 1.5, "std": pytest.approx(0.5**0.5)},
    ]
    [alone] = lineup.learning_curve("hard", "cross-entropy", [outcome(0.5)])
    assert alone == {"set": "hard", "loss": "cross-entropy", "epoch": 0, "mean": 0.5, "std": 0.0}


def test_a_curve_tells_which_loss_it_shows(some: Parts, train: ImageTable, tmp_path: Path) -> None:
    rows = contenders(some, train, tmp_path)
    outcomes = [[{"accuracy": 1.0, "history": [{"epoch": 0, "loss": 1.0}]}] for _ in rows]
    found = {
        row["set"]: row["loss"] for row in lineup.learning_curves(rows, outcomes, protocol_of(params_of().evaluation))
    }
    assert found.pop("score, hard labels") == "cross-entropy"
    assert len(found) == 4 and set(found.values()) == {"kl"}
