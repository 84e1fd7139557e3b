"""The wheel in a virtual environment with its base dependencies and nothing else: a release loads, and what DVC or a
build would do is refused in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
import releases
from packaging.requirements import Requirement

pytestmark = pytest.mark.pipeline

READ = """
import sys
import torch
from torch.utils.data import DataLoader
import dcpipe
release = dcpipe.load("fish")
for labels in ("pack", "teacher", "hard"):
    dataset = release.dataset(labels=labels)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        seen = [len(images) for images, targets in DataLoader(dataset, batch_size=5)]
        assert sum(seen) == 12 == sum(len(images) for images, _ in dcpipe.CondensedLoader(dataset, 5))
try:
    dcpipe.load("fish@v1.0.0", repo=".")
except dcpipe.DataError as error:
    print(error)
print({"dvc", "zarr", "prefect", "matplotlib", "scipy"} & set(sys.modules))
"""


def required(dist: Distribution, seen: dict[str, Distribution]) -> Iterator[Distribution]:
    """The distributions that one needs on this machine without extras, itself left out."""
    for text in dist.requires or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if requirement.name not in seen:
            seen[requirement.name] = distribution(requirement.name)
            yield seen[requirement.name]
            yield from required(seen[requirement.name], seen)


@pytest.fixture(scope="module")
def base(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that finds what the wheel installs and what it requires: links to installed packages, because
    another installation would take minutes."""
    venv = tmp_path_factory.mktemp("base") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    [site] = venv.glob("lib/*/site-packages")
    [wheel] = Distribution.discover(name="dcpipe", path=[str(installed)])
    for path in installed.iterdir():
        (site / path.name).symlink_to(path)
    for dist in required(wheel, {}):
        tops = {file.parts[0] for file in dist.files or () if ".." not in file.parts}
        for name in tops - {"__pycache__"}:
            if not (site / name).is_symlink():
                (site / name).symlink_to(Path(str(dist.locate_file(name))))
    return venv / "bin" / "python"


def run(base: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DCPIPE_", "PYTHON"))}
    return subprocess.run(
        [str(base), *arguments], cwd=folder, env=kept, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_release_is_read_with_the_base_dependencies_alone(base: Path, tmp_path: Path) -> None:
    releases.build(tmp_path / "fish", releases.parts())
    for command in (["git", "init", "-q"], ["git", "commit", "-q", "--allow-empty", "-m", "x"], ["git", "tag"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"] if command[1] == "commit" else []
        names = ["fish@v1.0.0"] if command[1] == "tag" else []
        subprocess.run([command[0], *identity, *command[1:], *names], cwd=tmp_path, check=True)
    done = run(base, tmp_path, "-W", "error", "-c", READ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        'DVC, which fetches releases by their tags, is not installed; run `pip install "dcpipe[dvc]"`',
        "set()",
    ]
    told = run(base, tmp_path, "-m", "dcpipe.cli", "inspect", "fish")
    assert told.returncode == 0 and "verified, 5 files" in told.stdout, told.stderr
    for arguments in (["pull", "fish@v1.0.0"], ["init", "digits", "set"]):
        refused = run(base, tmp_path, "-m", "dcpipe.cli", *arguments)
        assert refused.returncode == 2 and refused.stderr.startswith("dcpipe: DVC, which "), refused.stderr
        assert refused.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"fish", ".git"}
