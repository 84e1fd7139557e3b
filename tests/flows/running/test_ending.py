"""What is told at the end of a `dvc repro`."""

from __future__ import annotations

from pathlib import Path

import pytest
import releases

from dcpipe import store
from dcpipe.reports import columns
from flows.running.ending import tell


def test_the_scores_and_the_way_to_the_release_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = releases.parts()
    assert some.pack is not None
    for name, kind in (("compression", "compression"), ("evaluation/scores", "scores")):
        bench = tmp_path / f"bench-{kind}"
        bench.mkdir()
        if kind == "scores":
            meta = store.save_scores(bench, some.scores)
        else:
            store.save_pack(bench / "labels.safetensors", some.pack)
            meta = {"hard": False}
        store.publish(bench, tmp_path / "data" / name, kind, meta, {})
    release = releases.build(tmp_path / "data" / "release", some)
    tell(tmp_path, release.meta["name"])
    told = capsys.readouterr().out
    assert all(score.name in told for score in some.scores)
    size = columns.human(store.folder_bytes(release.path))
    assert told.splitlines()[-1] == (
        f'The release is in data/release, {size}: dcpipe.load("data/release"), or commit and '
        f"`dcpipe publish {release.meta['name']}@v1.0.0`."
    )
