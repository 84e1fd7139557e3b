"""Claim: a pipeline that is killed at any moment and started again ends with the same data, and no flipped bit of an
artifact or of a release goes unnoticed.

    python benchmarks/reliability.py kills --kills 15 [plain sre2l edc mdc]
    python benchmarks/reliability.py workers --kills 10
    python benchmarks/reliability.py flips --flips 300

`kills` clones this repository into a temporary workspace for each pipeline, runs `dvc repro` once without interruption,
and again in a second workspace, where the whole process group gets SIGKILL after a random time, over and over, before a
last run may finish. Both dvc.lock files must name the same content. `workers` runs the plain pipeline on two workers,
of which a random one gets SIGKILL at a random moment of every stage that uses them; no run may fail. `flips` flips one
random bit of one random file of a random artifact (manifests included) of the plain pipeline at a time, and asks the
loader; the error must name the file. All print one line per case; the exit code is 1 if a case failed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

import dcpipe
from dcpipe.store.artifact import verify
from dcpipe.types import DataError

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("plain", "sre2l", "edc", "mdc")


def pipelines() -> dict[str, dict[str, Any]]:
    """Parameters by name: those of the tests of pipelines, with a second teacher and a released one."""
    sys.path[:0] = [str(ROOT / "tests" / "pipeline")]
    from workspaces import TINY

    teachers = {"convnet": {"network": "convnet-d2-w4"}, "resnet": {"network": "resnet10-w2"}}
    plain = {
        **TINY,
        "teacher": {"networks": teachers, "training": {**TINY["teacher"]["training"], "epochs": 4}},
        "release": {**TINY["release"], "teacher": True},
    }
    matched = {"network": "convnet-d2-w4", "outer": 8, "inner": 4, "real_batch": 8, "learn_images": 8, "factor": 1}
    options: dict[str, dict[str, Any]] = {
        "sre2l": {"observers": ["resnet"], "iterations": 40, "jitter": 1},
        "edc": {"iterations": 40},
        "mdc": {"base": "idc", "options": matched, "period": 1},
    }
    picked_at_random = {**plain, "selection": {"method": "random", "ipc": 3}}
    return {"plain": plain} | {
        name: {**picked_at_random, "synthesis": {"method": name, "options": options[name]}} for name in NAMES[1:]
    }


def workspace(folder: Path, name: str) -> Path:
    """A clone of this repository with the parameters of a pipeline."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(pipelines()[name]), encoding="utf-8")
    return folder


def start(folder: Path, **more: str) -> subprocess.Popen[bytes]:
    """`dvc repro` in a process group of its own, with more variables of the environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DCPIPE_", "PREFECT_"))}
    environment |= {
        "DCPIPE_PREFECT": "off",
        "DCPIPE_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "DCPIPE_CHECKPOINT_SECONDS": "0",
        "DVC_NO_ANALYTICS": "1",
        "PYTHONPATH": str(folder),
        **more,
    }
    with (folder.with_suffix(".log")).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def outputs(folder: Path) -> dict[str, Any]:
    """What dvc.lock says of every stage's outputs."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    return {name: stage["outs"] for name, stage in stages.items()}


def kills(name: str, wanted: int, seed: int, folder: Path) -> bool:
    """One pipeline: unbroken, then killed at random moments; whether both end with the same content."""
    whole = workspace(folder / f"{name}-whole", name)
    began = time.monotonic()
    if start(whole).wait() != 0:
        print(f"{name}: the unbroken run failed; see {whole}.log")
        return False
    seconds = time.monotonic() - began
    broken = workspace(folder / f"{name}-broken", name)
    chance, killed = random.Random(f"{name} {seed}"), 0
    stages: set[str] = set()
    while killed < wanted:
        process = start(broken)
        try:
            process.wait(timeout=chance.uniform(0.02, 0.25) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            lines = broken.with_suffix(".log").read_text(encoding="utf-8", errors="replace").splitlines()
            stages.add(next((line for line in reversed(lines) if line.startswith("Running stage")), "start"))
            continue
        # It had ended before the kill: begin again, so that more moments of it are hit.
        if process.returncode != 0:
            print(f"{name}: a run after {killed} kills failed; see {broken}.log")
            return False
        if outputs(broken) != outputs(whole):
            break
        shutil.rmtree(broken)
        workspace(broken, name)
    last = start(broken).wait()
    same = last == 0 and outputs(broken) == outputs(whole)
    print(
        f"{name}: {killed} kills in {len(stages)} different stages, unbroken run {seconds:.0f} s, "
        f"{'same' if same else 'OTHER'} content"
    )
    return same


def busy_stage(folder: Path) -> str:
    """The stage that runs now, if it has workers; otherwise ""."""
    said = folder.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
    stage = said.rpartition("Running stage '")[2]
    return stage.partition("'")[0] if "workers of this machine" in stage and ": done in" not in stage else ""


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The process ids of the workers in the group of a process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == process.pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return found


def workers(wanted: int, seed: int, folder: Path) -> bool:
    """The plain pipeline: unbroken in one process, then on workers that are killed at random moments, over and over;
    whether all runs end with the same content."""
    whole = workspace(folder / "whole", "plain")
    if start(whole).wait() != 0:
        print(f"workers: the unbroken run failed; see {whole}.log")
        return False
    chance, killed, runs = random.Random(seed), 0, 0
    stages: set[str] = set()
    while killed < wanted:
        broken = workspace(folder / f"broken-{runs}", "plain")
        process, runs, last = start(broken, DCPIPE_WORKERS="2"), runs + 1, ""
        while process.poll() is None:
            time.sleep(chance.uniform(0.02, 0.5))
            stage = busy_stage(broken)
            if stage not in ("", last) and (victims := workers_of(process)):
                os.kill(chance.choice(victims), signal.SIGKILL)
                killed, last = killed + 1, stage
                stages.add(stage)
        if process.returncode != 0 or outputs(broken) != outputs(whole):
            print(f"workers: run {runs} failed or has OTHER content after {killed} kills; see {broken}.log")
            return False
    print(f"workers: {killed} kills in {runs} runs, in {', '.join(sorted(stages))}; same content")
    return True


def flips(wanted: int, seed: int, folder: Path) -> bool:
    """Flip one bit at a time; whether all are named."""
    root = workspace(folder / "flips", "plain")
    if start(root).wait() != 0:
        print(f"the pipeline failed; see {root}.log")
        return False
    artifacts = sorted(path.parent for path in (root / "data").rglob("artifact.json"))
    chance, named, unnamed, silent = random.Random(seed), 0, 0, 0
    for _ in range(wanted):
        artifact = chance.choice(artifacts)
        file = chance.choice(sorted(path for path in artifact.rglob("*") if path.is_file()))
        data = bytearray(file.read_bytes())
        if not data:
            continue
        place = chance.randrange(len(data))
        data[place] ^= 1 << chance.randrange(8)
        status, whole = file.stat(), file.read_bytes()
        file.unlink()  # it may be a link into DVC's cache
        file.write_bytes(bytes(data))
        try:
            if artifact.name == "release":
                dcpipe.load(artifact)
            else:
                verify(artifact)
            silent += 1
            print(f"silent: {file} at {place}")
        except DataError as error:
            if file.name in str(error):
                named += 1
            else:
                unnamed += 1
                print(f"not named: {file} at {place}: {error}")
        finally:
            file.write_bytes(whole)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    print(
        f"flips: {named + unnamed + silent} in {len(artifacts)} artifacts; {named} named, {unnamed} refused without "
        f"the file's name, {silent} silent"
    )
    return unnamed == silent == 0


def main() -> int:
    """Read the arguments and run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("kills")
    command.add_argument("pipelines", nargs="*", default=NAMES, help="plain, sre2l, edc, mdc (default: all)")
    command.add_argument("--kills", type=int, default=15, help="per pipeline")
    command = commands.add_parser("workers")
    command.add_argument("--kills", type=int, default=10)
    command = commands.add_parser("flips")
    command.add_argument("--flips", type=int, default=300)
    for command in commands.choices.values():
        command.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.command == "flips":
            return int(not flips(options.flips, options.seed, Path(folder)))
        if options.command == "workers":
            return int(not workers(options.kills, options.seed, Path(folder)))
        results = [kills(name, options.kills, options.seed, Path(folder)) for name in options.pipelines]
    return int(not all(results))


if __name__ == "__main__":
    sys.exit(main())
