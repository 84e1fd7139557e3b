"""Staging folders: work survives a kill, only one run holds an output, and full disks are refused before the work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import releases

from dcpipe import store
from dcpipe.types import DataError

VALUES = np.arange(24, dtype=np.float32).reshape(8, 3)
LINEAGE = {"stage": "x", "seed": 0}
HOLDER = """
import sys
from pathlib import Path
from dcpipe import store
with store.staging_dir(Path("data/x"), {"stage": "x"}):
    print("held", flush=True)
    sys.stdin.read()
"""


class KilledError(Exception):
    """What a kill looks like from inside."""


def fill(staging: store.StagingDir, stop: int | None = None) -> list[int]:
    """Write the shards still missing; the ones written."""
    blocks = store.create_blocks(staging.root / "x.zarr", VALUES.shape, "float32", rows=2)
    todo = blocks.missing()
    for block in todo:
        if block == stop:
            raise KilledError
        blocks.write(block, VALUES[blocks.span(block)])
    return todo


def test_a_killed_run_continues_where_it_stopped(scratch: Path) -> None:
    with pytest.raises(KilledError), store.staging_dir(Path("data/x"), LINEAGE) as staging:
        (staging.notes / "checkpoint").write_text("epoch 3", encoding="utf-8")
        fill(staging, stop=2)
    torn = [staging.root / "x.zarr" / "c" / "2" / "0.abc.partial", staging.notes / "checkpoint.1234.partial"]
    for path in torn:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    with store.staging_dir(Path("data/x"), LINEAGE) as staging:
        assert not any(path.exists() for path in torn), "what a kill tore must go"
        assert (staging.notes / "checkpoint").read_text(encoding="utf-8") == "epoch 3"
        assert fill(staging) == [2, 3]
        artifact = staging.publish("x", {})
    assert artifact.lineage == LINEAGE
    np.testing.assert_array_equal(store.open_blocks(Path("data/x/x.zarr"))[:], VALUES)
    left = sorted(path.name for path in scratch.iterdir())
    assert left == ["data-x.lock", "data-x.owner"], "nothing else is left behind"


def test_a_change_starts_again_and_a_change_back_continues(scratch: Path) -> None:
    with pytest.raises(KilledError), store.staging_dir(Path("data/x"), LINEAGE) as staging:
        fill(staging, stop=1)
    with pytest.raises(KilledError), store.staging_dir(Path("data/x"), {**LINEAGE, "seed": 1}) as other:
        assert other.root != staging.root and list(other.root.iterdir()) == []
        raise KilledError
    with store.staging_dir(Path("data/x"), LINEAGE) as again:
        assert again.root == staging.root and fill(again) == [1, 2, 3]


def test_outputs_of_one_name_in_two_folders_have_two_staging_folders(scratch: Path) -> None:
    with store.staging_dir(Path("a/x"), LINEAGE) as first, store.staging_dir(Path("b/x"), LINEAGE) as second:
        assert first.root != second.root


def test_a_second_process_is_refused_with_the_process_number_of_the_first(scratch: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(DataError) as error, store.staging_dir(Path("data/x"), LINEAGE):
            pass
        assert str(error.value) == (
            f"another run is writing data/x (process {holder.pid}); wait until it ends, or stop it, then run again"
        )
        freed, held = store.clean()
        assert (freed, held) == (0, ["data-x"])
        assert len(list(scratch.glob("data-x-*"))) == 2, "a locked folder was deleted"
    finally:
        holder.kill()
        holder.communicate()
    with store.staging_dir(Path("data/x"), LINEAGE):
        pass  # a kill frees the lock


def test_a_run_that_fails_frees_its_lock_and_the_next_one_is_its_owner(scratch: Path) -> None:
    (scratch / "data-x.owner").parent.mkdir(exist_ok=True)
    (scratch / "data-x.owner").write_text("1", encoding="utf-8")
    with pytest.raises(KilledError), store.staging_dir(Path("data/x"), LINEAGE):
        raise KilledError
    assert (scratch / "data-x.owner").read_text(encoding="utf-8") == str(os.getpid())
    with (
        store.staging_dir(Path("data/x"), LINEAGE),
        pytest.raises(DataError, match=rf"^another run is writing data/x \(process {os.getpid()}\); wait"),
        store.staging_dir(Path("data/x"), LINEAGE),
    ):
        pass


def test_what_a_run_noted_is_found_by_the_next_one(scratch: Path) -> None:
    with store.staging_dir(Path("data/x"), LINEAGE) as staging:
        store.Notes(staging.notes).save_arrays("picks", rows=np.array([3, 1]))
    with store.staging_dir(Path("data/x"), LINEAGE) as again:
        kept = store.Notes(again.notes).load_arrays("picks")
        assert kept is not None and kept["rows"].tolist() == [3, 1]


NO_FCNTL = """
import sys
sys.modules["fcntl"] = None
import warnings
warnings.filterwarnings("ignore", "only soft file lock is available")  # on Windows there is another one
import dcpipe
from dcpipe import store
release = dcpipe.load(sys.argv[1])
print(release.name, len(release.dataset()))
"""


def test_a_release_is_read_where_there_is_no_fcntl(scratch: Path, tmp_path: Path) -> None:
    """As on Windows: the module is hidden from a fresh interpreter."""
    releases.build(tmp_path / "fish", releases.parts())
    done = subprocess.run([sys.executable, "-c", NO_FCNTL, tmp_path / "fish"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fish 12\n", "")


def test_cleaning_frees_staging_folders_and_touches_nothing_else(scratch: Path) -> None:
    with pytest.raises(KilledError), store.staging_dir(Path("data/x"), LINEAGE) as staging:
        fill(staging, stop=3)
    (staging.notes / "n").write_bytes(b"12345")
    keep = [scratch / "data-x-mine", scratch / "other-0123456789abcdef", scratch / "data-x-0123456789abcdef.txt"]
    for path in keep:
        path.mkdir()
    expected = store.folder_bytes(staging.root) + 5
    (scratch / "data-x.lock").unlink()  # as Windows does when a lock is given up
    assert store.clean() == (expected, [])
    assert all(path.is_dir() for path in keep) and not staging.root.exists() and not staging.notes.exists()
    assert store.clean() == (0, [])


def test_scratch_is_the_workspaces_own_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DCPIPE_SCRATCH", raising=False)
    assert store.scratch_root() == tmp_path / ".dcpipe" / "scratch"
    monkeypatch.setenv("DCPIPE_SCRATCH", "relative/folder")
    with pytest.raises(DataError) as error:
        store.scratch_root()
    assert str(error.value) == "DCPIPE_SCRATCH='relative/folder' is relative; give an absolute path"


def test_work_that_cannot_fit_is_refused_with_both_figures(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda root: usage(9, 9, 2_500_000_000))
    store.need_space(2_500_000_000, "the store")
    with pytest.raises(DataError) as error:
        store.need_space(7_310_000_000, "soft labels of 8 images")
    assert str(error.value) == (
        f"soft labels of 8 images needs 7.3 GB but {scratch} has 2.5 GB free; "
        "free some space or set DCPIPE_SCRATCH to a larger disk"
    )


def test_scratch_on_another_disk_publishes_by_copy(scratch: Path, tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system; /dev/shm is none")
    folder = shared_memory / f"dcpipe-test-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "data").write_bytes(b"x")
        artifact = store.publish(folder, tmp_path / "out", "x", {}, {})
        assert store.open_artifact(tmp_path / "out", "x").digest == artifact.digest
        assert not folder.exists()
        assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob("*.old"))
    finally:
        if folder.exists():
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
