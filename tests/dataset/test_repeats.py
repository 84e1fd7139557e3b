"""The warning about a forgotten `set_epoch`: after all was drawn twice, once, and for nothing else."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from condensed import N, image_set, pack_of
from torch.utils.data import DataLoader

from dcpipe.dataset import CondensedDataset, CondensedLoader
from dcpipe.dataset.repeats import Repeats

TOLD = r"^epoch 0 of a condensed dataset was drawn twice without set_epoch, .*; call dataset\.set_epoch\(epoch\) before"


def fresh() -> CondensedDataset:
    return CondensedDataset.from_pack(image_set(), pack_of(image_set(), "none"))


def draw(loader: DataLoader[object] | CondensedLoader) -> None:
    for _ in loader:
        pass


@pytest.mark.parametrize("kind", ["torch", "ours"])
def test_a_second_pass_warns_once(kind: str) -> None:
    dataset = fresh()
    loader = DataLoader(dataset, 5, shuffle=True) if kind == "torch" else CondensedLoader(dataset, 5)
    draw(loader)
    with pytest.warns(UserWarning, match=TOLD):
        draw(loader)
    draw(loader)  # warnings are errors in these tests, and this one would be the second
    dataset.set_epoch(1)
    for _ in range(2):
        draw(loader)


def test_passes_that_an_epoch_was_set_for_do_not_warn() -> None:
    dataset = fresh()
    loader, other = DataLoader(dataset, 5), CondensedLoader(dataset, 5)
    for epoch in (0, 1, 1, 1):
        dataset.set_epoch(epoch)
        draw(loader)
        draw(other.batches(epoch))  # type: ignore[arg-type]


def test_two_loaders_may_draw_an_epoch_each() -> None:
    dataset = fresh()
    for loader in (CondensedLoader(dataset, 5), CondensedLoader(dataset, 7), DataLoader(dataset, 5)):
        draw(loader)


def test_looking_at_items_does_not_warn() -> None:
    dataset = fresh()
    draw(DataLoader(dataset, 5))
    for _ in range(3):
        for item in range(N):
            dataset[item]
        dataset.batch(np.arange(N))
    for _ in range(20):
        next(iter(CondensedLoader(dataset, 5)))  # passes that end early


def test_an_epoch_without_items_does_not_warn() -> None:
    repeats = Repeats()
    for _ in range(3):
        repeats.count(0, 0, 0)
    repeats.count(1, 2, 0)
    repeats.count(2, 2, 0)
    with pytest.warns(UserWarning, match=TOLD):
        repeats.count(1, 2, 0)


@pytest.mark.parametrize("persistent", [True, False])
def test_workers_count_together(persistent: bool) -> None:
    """Two workers that each draw a part: one pass is no repetition. Two are, in other processes than before too."""
    dataset = fresh()
    loader = DataLoader(dataset, 5, num_workers=2, persistent_workers=persistent)
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        draw(loader)
    for _ in range(2):  # a worker may miss a few of the other's items
        if not dataset.repeats._state[-1]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                draw(DataLoader(dataset, 5, num_workers=2))
    assert dataset.repeats._state[-1], "some process warned"


def test_a_worker_that_lives_on_tells_its_user(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from condensed import dataset_of\nfrom torch.utils.data import DataLoader\n"
        "loader = DataLoader(dataset_of('none'), 5, num_workers=1, persistent_workers=True)\n"
        "for _ in range(4):\n    list(loader)\n"
    )
    tests = str(Path(__file__).resolve().parents[1])
    done = subprocess.run([sys.executable, "-c", code, tests], capture_output=True, text=True, check=True)
    assert done.stderr.count("epoch 0 of a condensed dataset was drawn twice without set_epoch") == 1
