"""A folder of experts: it is reused, completed, and refused if it is of another run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from matching_scenes import NETWORK, World

from dcpipe.store.hashing import sha256
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.synthesis.trajectories.collection import INDEX, LOCK, collected
from dcpipe.synthesis.trajectories.experts import Recipe, accuracy
from dcpipe.synthesis.trajectories.unrolling import Student
from dcpipe.types import DataError

RECIPE = Recipe(NETWORK, 3, 8, 2, Teaching(0.05, 0.0, 0.0, 10, "dsa:color_crop"), 0)


@pytest.fixture
def real(tmp_path: Path) -> RealImages:
    return RealImages(World(tmp_path / "world").context, 3, 0, 1)


def test_the_index_says_what_the_files_are(tmp_path: Path, real: RealImages) -> None:
    made = collected(RECIPE, real, tmp_path / "e", 2)
    content = json.loads((tmp_path / "e" / INDEX).read_text())
    assert content["recipe"] == RECIPE.described() and content["seed"] == 0
    student = Student(RECIPE.untrained(0))
    assert content["layout"] == {name: list(shape) for name, shape in student.layout.items()}
    for number, entry in enumerate(content["experts"]):
        [last] = made.read(number, 2)
        path = made.paths[number]
        assert entry == {
            "seed": RECIPE.own_seed(number),
            "accuracy": accuracy(student, last, real),
            "sha256": sha256(path),
        }
    assert made.table()[1]["sha256"] == content["experts"][1]["sha256"] and len(made.digest) == 64


def test_experts_are_trained_once_and_completed(tmp_path: Path, real: RealImages) -> None:
    told: list[tuple[int, int]] = []
    first = collected(RECIPE, real, tmp_path / "e", 1, lambda *of: told.append(of))
    both = collected(replace(RECIPE, seed=5), real, tmp_path / "e", 2, lambda *of: told.append(of))
    assert told == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert both.experts[0] == first.experts[0] and both.experts[1].seed == RECIPE.own_seed(1)  # the folder's seed
    again = collected(RECIPE, real, tmp_path / "e", 1, lambda *of: told.append(of))
    assert len(told) == 4 and again.digest == first.digest != both.digest
    index = json.loads((tmp_path / "e" / INDEX).read_text())
    index["experts"].pop()  # as after a kill between a file and its entry
    (tmp_path / "e" / INDEX).write_text(json.dumps(index))
    assert collected(RECIPE, real, tmp_path / "e", 2).experts == both.experts
    (tmp_path / "e" / INDEX).unlink()
    with pytest.raises(DataError, match=r"has experts but no index.json, so it is not known how they were trained"):
        collected(RECIPE, real, tmp_path / "e", 2)


def test_an_expert_that_was_begun_belongs_to_its_settings(tmp_path: Path, real: RealImages) -> None:
    """Killed in its first expert, a folder is already that of its recipe and images."""

    def die(number: int, epoch: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collected(RECIPE, real, tmp_path / "e", 1, die)
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == ["expert-0000.open", LOCK, INDEX]
    with pytest.raises(DataError, match=r"lr 0.05, not 0.1; set expert_lr: 0.05"):
        collected(replace(RECIPE, teaching=replace(RECIPE.teaching, lr=0.1)), real, tmp_path / "e", 1)
    (tmp_path / "e" / INDEX).unlink()  # of whom the begun file is, is not known any more
    clean = collected(replace(RECIPE, seed=7), real, tmp_path / "clean", 1)
    assert collected(replace(RECIPE, seed=7), real, tmp_path / "e", 1).experts == clean.experts


def test_a_file_is_no_folder_of_experts(tmp_path: Path, real: RealImages) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="which is no folder; give another folder in trajectories"):
        collected(RECIPE, real, tmp_path / "file", 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(RECIPE, epochs=3), "epochs 2, not 3; set expert_epochs: 2, or give another folder in trajectories"),
        (replace(RECIPE, network="convnet-d1-w3"), "network 'convnet-d2-w3', not 'convnet-d1-w3'; set network"),
        (replace(RECIPE, teaching=replace(RECIPE.teaching, lr=0.1)), "lr 0.05, not 0.1; set expert_lr: 0.05"),
        (replace(RECIPE, teaching=replace(RECIPE.teaching, strategy="")), "strategy 'dsa:color_crop', not ''"),
    ],
)
def test_experts_of_another_recipe_are_refused(tmp_path: Path, real: RealImages, changed: Recipe, message: str) -> None:
    collected(RECIPE, real, tmp_path / "e", 1)
    with pytest.raises(DataError, match=message):
        collected(changed, real, tmp_path / "e", 1)


def test_other_images_and_changed_files_are_refused(tmp_path: Path, real: RealImages) -> None:
    made = collected(RECIPE, real, tmp_path / "e", 1)
    real.pixels[0, 0, 0, 0] ^= 1
    with pytest.raises(DataError, match="were trained on other images; give another folder in trajectories"):
        collected(RECIPE, real, tmp_path / "e", 1)
    real.pixels[0, 0, 0, 0] ^= 1
    content = bytearray(made.paths[0].read_bytes())
    content[-1] ^= 1
    made.paths[0].write_bytes(content)
    with pytest.raises(DataError, match=r"is not the one that index\.json beside it names"):
        collected(RECIPE, real, tmp_path / "e", 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda text: text.replace('"schema": 1', '"schema": 2'),
        lambda text: text.replace('"sha256"', '"sha"'),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, real: RealImages, damage: object) -> None:
    collected(RECIPE, real, tmp_path / "e", 1)
    path = tmp_path / "e" / INDEX
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(DataError, match=r"is damaged .*; remove the folder, or give another one in trajectories"):
        collected(RECIPE, real, tmp_path / "e", 1)


def test_an_index_of_imported_experts_is_refused(tmp_path: Path, real: RealImages) -> None:
    collected(RECIPE, real, tmp_path / "e", 1)
    path = tmp_path / "e" / INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe": None}))
    with pytest.raises(DataError, match="another program trained"):
        collected(RECIPE, real, tmp_path / "e", 1)


HOLDER = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_run_at_a_time_writes_and_a_killed_one_blocks_nobody(tmp_path: Path, real: RealImages) -> None:
    folder = tmp_path / "e"
    first = collected(RECIPE, real, folder, 1)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, folder / LOCK], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(DataError) as told:
            collected(RECIPE, real, folder, 2)
        assert str(told.value) == (
            f"another run is training experts in {folder}; wait until it ends, or stop it, then run again, or give "
            "another folder in trajectories"
        )
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
        assert collected(RECIPE, real, folder, 1).digest == first.digest, "nothing is written, so nobody is in the way"
    finally:
        holder.kill()
        holder.communicate()
    assert (folder / LOCK).exists() and len(collected(RECIPE, real, folder, 2).paths) == 2
