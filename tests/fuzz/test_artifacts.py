"""Artifacts that are damaged, or made by a stranger: each is refused in one sentence, or is what it was."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kinds
import pytest
import releases
from hypothesis import example, given, settings
from hypothesis import strategies as st
from targets import TARGETS, Trial

import dcpipe
from dcpipe.cli import commands as cli
from dcpipe.store.artifact import verify
from dcpipe.types import DataError

FLIPS = 12


@pytest.fixture(scope="module", params=[*kinds.KINDS, "release"])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Callable[[Path], Any]]:
    """An artifact of every kind, and its loader."""
    root = tmp_path_factory.mktemp("whole")
    if request.param == "release":
        return releases.build(root / "out", releases.parts()).path, dcpipe.load
    kind = kinds.KINDS[request.param]
    return kind.publish(root).path, kind.load


def flips(data: bytes, draw: random.Random) -> list[bytes]:
    """Copies with one byte changed: anywhere, and at both ends."""
    places = [0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(FLIPS))]
    return [data[:at] + bytes([data[at] ^ draw.randrange(1, 256)]) + data[at + 1 :] for at in places]


def test_every_flipped_byte_of_every_file_is_named(
    whole: tuple[Path, Callable[[Path], Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """By the loader, and by `dcpipe inspect`, the manifest included."""
    folder, load = whole
    draw = random.Random(7)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    assert folder / "artifact.json" in paths and len(paths) > 1
    for path in paths:
        data = path.read_bytes()
        for number, damaged in enumerate(flips(data, draw)):
            path.write_bytes(damaged)
            for read in (load, verify):
                with pytest.raises(DataError) as error:
                    read(folder)
                assert str(folder if path.name == "artifact.json" else path) in str(error.value)
                assert len(str(error.value).splitlines()) == 1
            if number % 4 == 0:
                assert cli.main(["inspect", str(folder)]) == 2
                captured = capsys.readouterr()
                assert captured.out == "" and captured.err.startswith("dcpipe: ") and str(folder) in captured.err
                assert captured.err.count("\n") == 1
        path.write_bytes(data)
    load(folder)
    assert cli.main(["inspect", str(folder)]) == 0
    assert "verified, " in capsys.readouterr().out


@pytest.fixture(scope="module", params=TARGETS)
def trial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(TARGETS[request.param], tmp_path_factory.mktemp("trial"))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_a_strangers_file_is_read_or_refused_in_one_sentence(trial: Trial, seed: int) -> None:
    """Under a manifest that vouches for it: nothing but `DataError` comes out."""
    trial.meets(trial.mutated(seed))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32))
@example(seed=4253)  # a manifest whose provenance is null
def test_a_file_that_the_manifest_does_not_vouch_for_is_refused(trial: Trial, seed: int) -> None:
    data = trial.mutated(seed)
    found = trial.meets(data, signed=False)
    assert found is None or data == trial.data or is_of_an_older_version(data)


def is_of_an_older_version(data: bytes) -> bool:
    """Whether this is a manifest without `provenance`, so that no digest covers its lineage and arrays."""
    try:
        return "digest" in (content := json.loads(data)) and "provenance" not in content
    except ValueError:
        return False


def test_an_artifact_that_is_signed_again_is_accepted(trial: Trial) -> None:
    """So that a refusal above is for the damage."""
    assert trial.meets(trial.data) is not None
    assert (trial.copy / "artifact.json").read_bytes() == (trial.whole / "artifact.json").read_bytes()
    shutil.rmtree(trial.copy)


def test_a_file_that_ended_the_process_is_refused(tmp_path: Path) -> None:
    """Found by `run.py images`: the footer's level histogram is damaged, at which pyarrow aborted the process."""
    found = Path(__file__).parent / "found" / "images-level-histogram.parquet"
    assert Trial(TARGETS["images"], tmp_path).meets(found.read_bytes()) is None  # it is refused
