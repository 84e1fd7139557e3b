"""A tiny workspace after a study of variants, for the tests of such studies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from variant_studies import NETWORKS, Calls, in_scratch, run_of, run_study, watch, write_study

from flows.compression import compression_stage
from flows.features import features_stage
from flows.images import images_stage
from flows.running import runtime
from flows.selection import selection_stage
from flows.softlabels import softlabels_stage
from flows.synthesis import synthesis_stage
from flows.teacher import teacher_stage


@pytest.fixture(scope="package", autouse=True)
def cached_code_digest() -> Iterator[None]:
    """Every staging folder needs the digest of the code, which would take most of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "code_digest", cache(runtime.code_digest))
        yield


@pytest.fixture(scope="package")
def studied(cached_code_digest: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Calls]]:
    """A workspace of real digits after a whole study, which tests only read, and the number of calls it took."""
    root = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        in_scratch(patch, root)
        images_stage(run_of("images"))
        for key in NETWORKS:
            teacher_stage(run_of("teacher"), key)
        features_stage(run_of("features"))
        write_study()
        calls = watch(patch)
        run_study("syntheses")
    yield root, calls


@pytest.fixture
def workspace(studied: tuple[Path, Calls], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workspace without the study, which is the current folder and may be changed."""
    shutil.copytree(studied[0] / "data", tmp_path / "data", ignore=shutil.ignore_patterns("study"))
    in_scratch(monkeypatch, tmp_path)
    write_study()
    return tmp_path


@pytest.fixture(scope="package")
def condensed(studied: tuple[Path, Calls], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same workspace with a condensed set and its labels, which tests only read."""
    root = tmp_path_factory.mktemp("condensed")
    shutil.copytree(studied[0] / "data", root / "data", ignore=shutil.ignore_patterns("study"))
    with pytest.MonkeyPatch.context() as patch:
        in_scratch(patch, root)
        selection_stage(run_of("selection"))
        synthesis_stage(run_of("synthesis"))
        softlabels_stage(run_of("softlabels"))
        compression_stage(run_of("compression"))
    return root


@pytest.fixture
def with_set(condensed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workspace with a set, which is the current folder and may be changed."""
    shutil.copytree(condensed / "data", tmp_path / "data")
    in_scratch(monkeypatch, tmp_path)
    return tmp_path
