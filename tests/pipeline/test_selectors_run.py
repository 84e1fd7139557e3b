"""Every selector in a real line, the shortlist, and selections that are killed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from workspaces import TINY, Workspace

from dcpipe import store
from dcpipe.selection import SELECTORS

pytestmark = pytest.mark.pipeline
SHORTLIST = {**TINY["features"], "label_rate": {**TINY["features"]["label_rate"], "shortlist": {"per_class": 12}}}


def test_every_selector_is_a_value_of_selection_method(copy_of_line: Workspace) -> None:
    random = store.load_selection(copy_of_line.root / "data/selection").ids
    cases = {name: {"selection": {"method": name, "ipc": 4, "seed": 1}} for name in SELECTORS}
    for name, folder in copy_of_line.each("selection", cases):
        picks = store.load_selection(folder)
        assert picks.method == name
        assert picks.labels.tolist() == list(range(10)) * 4
        assert np.isfinite(picks.gains).all()
        assert set(picks.ids.tolist()) != set(random.tolist())


def test_an_option_of_another_selector_is_refused(copy_of_line: Workspace) -> None:
    copy_of_line.params(selection={"method": "herding", "ipc": 3, "options": {"alpha": 1.0}})
    output = copy_of_line.run(sys.executable, "-m", "flows.selection", ok=False)
    assert "selector 'herding' has no option 'alpha'; its options are" in output


def test_a_shortlist_measures_few_rates_and_says_what_it_may_miss(copy_of_line: Workspace) -> None:
    folder = copy_of_line.root / "data/features"
    whole = store.load_features(folder)
    all_rates = whole.label_rate.copy()
    copy_of_line.params(features=SHORTLIST)
    copy_of_line.run("dvc", "repro", "features")
    short = store.load_features(folder)
    kept = np.isfinite(short.label_rate)
    assert np.bincount(short.labels[kept]).tolist() == [12] * 10
    np.testing.assert_array_equal(short.label_rate[kept], all_rates[kept])
    assert short.rank is not None
    for label in range(10):
        ranks = np.sort(short.rank[short.labels == label])
        assert ranks[-12:].tolist() == list(range(12)) and (ranks[:-12] == -1).all()
    output = copy_of_line.run("dvc", "repro", "selection")
    assert "of the picks are from the lower half of the shortlist" in output
    picks = store.load_selection(copy_of_line.root / "data/selection")
    assert kept[np.isin(short.ids, picks.ids)].all()
    # A shortlist that no ipc can be taken from is refused by name.
    copy_of_line.params(features=SHORTLIST, selection={"method": "score", "ipc": 13})
    output = copy_of_line.run(sys.executable, "-m", "flows.selection", ok=False)
    assert "selection.ipc is 13 but the shortlist has 12 images of class" in output
    longer = {**SHORTLIST, "label_rate": {"shortlist": {"per_class": 5000}}}
    copy_of_line.params(features=longer)
    output = copy_of_line.run(sys.executable, "-m", "flows.features", ok=False)
    assert "features.label_rate.shortlist.per_class is 5000 but class" in output


KILLED = {
    "rounds": ("selection", {"selection": {"method": "score", "ipc": 100}}),
    "global": ("selection", {"selection": {"method": "score", "ipc": 30, "options": {"order": "global"}}}),
    "shortlist": (
        "features",
        {"features": {**TINY["features"], "label_rate": {"views": 4, "shortlist": {"per_class": 100}}}},
    ),
}


@pytest.mark.parametrize("case", KILLED)
def test_a_killed_selection_goes_on_with_the_same_picks(copy_of_line: Workspace, case: str) -> None:
    noun, changes = KILLED[case]
    copy_of_line.params(**changes)
    folder = copy_of_line.root / "data" / noun
    shutil.rmtree(folder)
    copy_of_line.stage(noun)
    unbroken = store.open_artifact(folder, noun).digest
    shutil.rmtree(folder)
    name = "shortlist.npz" if case == "shortlist" else "picks.npz"
    process = copy_of_line.start(sys.executable, "-m", f"flows.{noun}")
    deadline = time.monotonic() + 120
    made = 0
    while made < 40 and time.monotonic() < deadline:
        for path in (copy_of_line.root / ".dcpipe/scratch").glob(f"data-{noun}-*.notes/{name}"):
            try:
                with np.load(path) as state:
                    made = len(state["rows"])
            except FileNotFoundError:  # it has just been replaced or published
                made = 0
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not folder.exists(), "the run published before it could be killed"
    copy_of_line.stage(noun)
    assert store.open_artifact(folder, noun).digest == unbroken
