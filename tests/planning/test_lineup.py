"""The evaluation: its rows, and passes and steps against the training loop itself."""

from __future__ import annotations

import pytest
import torch
from planned import DIGITS, IMAGENET, of_kind, setting
from releases import CLASSES, parts

from dcpipe.dataset import CondensedDataset
from dcpipe.evaluation.students import protocol_of, train_student
from dcpipe.planning.counts import Counts
from dcpipe.planning.lineup import Row, evaluation, rows


def test_imagenet_by_hand() -> None:
    """15 students x 300 epochs x 782 batches of 64, tested once each; one row of three labels by the teacher online."""
    stage = evaluation(setting("imagenet-1k-ipc50", IMAGENET))
    assert stage.steps == 15 * 300 * 782
    assert of_kind(stage.work, "train")[0].amount == 15 * 300 * 50_000
    online, tests, random = 3 * 300 * 50_000, 15 * 50_000, 50_000 * 300
    assert sum(work.amount for work in of_kind(stage.work, "forward")) == online + tests + random
    # Labels of random images, twice their pack, the images, and decoded test images.
    assert stage.scratch == pytest.approx(30e9 + 12e9 + 5e9 + 7.5e9, rel=0.01)
    # Pixels and the pack as they are read; two times 15 views, and one more, of uncompressed labels.
    pixels, pack, view = 50_000 * 224**2 * 3, 6e9, 50_000 * 1000 * 2
    assert stage.host == pytest.approx(0.7e9 + 2.7 * pixels + 1.5 * pack + 31 * view, rel=0.01)
    assert pixels + pack < stage.device < pixels + pack + 10e9, "and no more labels than the pack"
    [streamed] = [work for work in of_kind(stage.work, "read") if work.units == 3]
    assert streamed.amount == 3 * 300 * view


def test_larger_sets_read_fewer_views_together() -> None:
    large = setting("imagenet-1k-ipc50", IMAGENET)
    content = {**large.params.selection.model_dump(mode="json"), "ipc": 200}
    stage = evaluation(setting("imagenet-1k-ipc50", IMAGENET, selection=content))
    pixels, view = 200_000 * 224**2 * 3, 200_000 * 1000 * 2
    assert stage.host == pytest.approx(0.7e9 + 2.7 * pixels + 1.5 * 24e9 + 11 * view, rel=0.01)
    [streamed] = [work for work in of_kind(stage.work, "read") if work.units == 3]
    assert streamed.amount == 3 * 300 * view * 3, "each chunk of 15 views is read for 5 of them at a time"


def test_rows_are_those_of_the_lineup() -> None:
    own = setting("digits", DIGITS)
    kinds = ["own", "uncompressed", "online", "hard", "random"]
    assert rows(own) == [*(Row(kind, 100) for kind in kinds), Row("equal_bytes", 310)], "its labels weigh two sets"
    hard = rows(setting("digits-mdc", DIGITS))
    sizes = [10, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert hard == [Row(kind, 10 * size) for kind in ("hard", "random") for size in sizes]
    block = {**own.params.evaluation.model_dump(mode="json"), "baselines": ["uncompressed"], "sizes": [2]}
    assert [row.kind for row in rows(setting("digits", DIGITS, evaluation=block))] == ["own", "own", "uncompressed"]


def test_grids_are_trained_on_cell_by_cell_and_random_images_whole() -> None:
    found = rows(setting("cifar10-idc-ipc10", Counts(49_000, 1000, 10_000, 10, 2500, "a test")))
    assert {row.kind: row.images for row in reversed(found)} == {"hard": 400, "random": 100}, "the whole sets"


def test_a_student_takes_as_many_steps_as_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = parts()
    assert made.pack is not None
    images, steps = len(made.images), []
    plain = torch.optim.AdamW.step

    def counted(self: torch.optim.AdamW, *others: object) -> object:
        steps.append(1)
        return plain(self, *others)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    changes = {"epochs": 3, "batch_size": 4, "baselines": ["hard"], "student": "convnet-d1-w4"}
    content = {**setting("digits", DIGITS).params.evaluation.model_dump(mode="json"), **changes}
    per_class = images // len(CLASSES)
    own = setting(
        "digits",
        Counts(90, 3, 30, len(CLASSES), 300, "a test"),
        evaluation=content,
        selection={"method": "random", "ipc": per_class, "options": {}},
        compression={"codec": "none", "ratio": None},
    )
    block = own.params.evaluation
    dataset = CondensedDataset.from_pack(made.images, made.pack, temperature=block.temperature)
    settings = {"n_classes": len(CLASSES), "mean": (0.5,) * 3, "std": (0.2,) * 3, "device": torch.device("cpu")}
    train_student(dataset, protocol_of(block), seed=0, **settings)  # type: ignore[arg-type]
    assert evaluation(own).steps == 2 * 3 * len(steps), "two rows of three seeds"


def test_students_of_all_images_take_what_their_recipe_says() -> None:
    own = setting("digits", DIGITS)
    block, training = own.params.evaluation.model_dump(mode="json"), own.params.teacher.training
    without = evaluation(setting("digits", DIGITS, evaluation={**block, "baselines": ["hard"]}))
    found = evaluation(setting("digits", DIGITS, evaluation={**block, "baselines": ["hard", "all_images"]}))
    more = [one for one in of_kind(found.work, "train") if one not in of_kind(without.work, "train")]
    assert [one.amount for one in more] == [3 * training.epochs * DIGITS.train]
    assert found.steps - without.steps == 3 * training.epochs * -(-DIGITS.train // training.batch_size)


def test_baselines_that_are_left_out_take_nothing() -> None:
    content = setting("digits", DIGITS).params.evaluation.model_dump(mode="json")
    content["baselines"] = ["random", "uncompressed", "online", "hard"]
    whole = evaluation(setting("digits", DIGITS, evaluation=content))
    alone = evaluation(setting("digits", DIGITS, evaluation={**content, "baselines": []}))
    assert alone.steps * 5 == whole.steps
    assert not of_kind(alone.work, "pack") and not of_kind(alone.work, "encode")
    assert alone.scratch < whole.scratch
