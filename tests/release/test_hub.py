"""Releases on the Hub: pushed and loaded through the real client, against a server of its interface."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import TOKEN, Hub, serving
from releases import FILES

import dcpipe
from dcpipe import release
from dcpipe.types import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as served:
        yield served


def test_what_is_pushed_is_the_release_and_loads(
    hub: Hub, made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    near = dcpipe.load(made)
    with caplog.at_level(logging.DEBUG):
        assert near.push_to_hub("somebody/fish", token=TOKEN) == "hf://datasets/somebody/fish"
    assert TOKEN not in caplog.text
    files = hub.repositories["somebody/fish"]
    assert files.keys() == {*FILES, "croissant.json"}
    assert {name: (made / name).read_bytes() for name in FILES} == {name: files[name] for name in FILES}
    assert hub.commits == [f"Release fish, digest {near.digest[:12]}"] and not hub.private
    far = dcpipe.load("hf://datasets/somebody/fish")
    assert far.digest == near.digest and far.scores == near.scores
    np.testing.assert_array_equal(far.images.images, near.images.images)
    for ours, theirs in zip(near.dataset().batch(np.arange(12)), far.dataset().batch(np.arange(12)), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    release.pull("hf://datasets/somebody/fish", None, tmp_path / "pulled")
    assert sorted(path.name for path in (tmp_path / "pulled").iterdir()) == sorted(FILES)
    far.push_to_hub("somebody/copy", token=TOKEN, private=True)
    assert hub.private == {"somebody/copy"}
    assert {name: files[name] for name in FILES} == {name: hub.repositories["somebody/copy"][name] for name in FILES}
    with pytest.raises(DataError, match=r"^hf://datasets/somebody/copy is not the folder of a release: "):
        dcpipe.load("hf://datasets/somebody/copy")
    about = json.loads(files["croissant.json"])
    assert about["url"] == f"{hub.endpoint}/datasets/somebody/fish"
    assert {each["name"] for each in about["distribution"]} == set(FILES) - {"artifact.json"}


def test_what_the_hub_refuses_is_said_in_a_sentence_without_the_token(hub: Hub, made: Path) -> None:
    found = dcpipe.load(made)
    wrong = "hf_another"
    with pytest.raises(DataError) as error:
        found.push_to_hub("somebody/fish", token=wrong)
    told = str(error.value)
    assert told.startswith("no access to hf://datasets/somebody/fish (") and "run `hf auth login`" in told
    assert wrong not in told and "\n" not in told
    with pytest.raises(DataError, match=r"^hf://datasets/so me/fi/sh cannot be read \(.*\); correct the URL$"):
        found.push_to_hub("so me/fi/sh", token=TOKEN)
    assert hub.repositories == {}


def test_a_part_of_a_release_is_not_pushed(hub: Hub, made: Path) -> None:
    with pytest.raises(DataError, match=r"^release fish was loaded with 6 of its 12 images; load it without ipc$"):
        dcpipe.load(made, ipc=2).push_to_hub("somebody/fish", token=TOKEN)
    assert hub.asked == []


def test_without_the_client_it_says_what_to_install(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = dcpipe.load(made)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError) as error:
        found.push_to_hub("somebody/fish")
    assert str(error.value) == 'push_to_hub needs the package huggingface_hub; run `pip install "dcpipe[hf]"`'
