"""`dcpipe judge` and `dcpipe compare`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcpipe import logs
from dcpipe.reports.printing import print_table
from dcpipe.types import DataError, require

if TYPE_CHECKING:  # importing these takes seconds
    from dcpipe.config.params import Params
    from dcpipe.judging.judgement import Judgement
    from dcpipe.judging.request import Request
    from dcpipe.release import Release

_log = logging.getLogger(__name__)


def add_judge(command: argparse.ArgumentParser) -> None:
    """The arguments of `dcpipe judge`."""
    command.add_argument("what", metavar="WHAT", help="NAME@vX.Y.Z, a folder with a release, or its URL")
    command.add_argument("--repo", help="git repository of the tag (path or URL; default: the current one)")
    command.add_argument(
        "--data", metavar="IMAGES", help="the original images: a preset such as digits, a params.yaml, or a folder"
    )
    command.add_argument("--students", default="", metavar="A,B", help="networks (default: that of the release)")
    command.add_argument("--seeds", default="0,1,2", metavar="N,M", help="one student each (default: 0,1,2)")
    command.add_argument("--protocol", metavar="NAME", help="how students are trained (default: as the release was)")
    command.add_argument(
        "--epochs", type=int, help="of students of sets, instead of the protocol's number; not of all training images"
    )
    command.add_argument("--rows", default="", metavar="A,B", help="what the set is compared with (default: all)")
    command.add_argument(
        "--curve", type=int, default=0, metavar="N", help="N more tests, for accuracy at equal compute"
    )
    command.add_argument("--sizes", action="store_true", help="also the first 1, 2, ... images of each class")
    command.add_argument(
        "--teacher",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="a teacher that labelled the set, such as data/teacher/main; can be repeated",
    )
    command.add_argument("--out", type=Path, help="where work and results are kept (default: judged/NAME)")
    command.set_defaults(run=judge)


def add_compare(command: argparse.ArgumentParser) -> None:
    """The arguments of `dcpipe compare`."""
    command.add_argument("judgements", nargs="+", type=Path, metavar="FOLDER", help="folders of `dcpipe judge`")
    command.add_argument("--out", type=Path, help="write the tables and a figure to this HTML file")
    command.set_defaults(run=compare)


def judge(options: argparse.Namespace) -> None:
    """Write the request, then run the stage `images` and the judging in its folder."""
    from dcpipe.judging import dvcfile, judgement, pages, request
    from dcpipe.release import load
    from dcpipe.store import open_artifact

    _check_environment()
    out = options.out or Path("judged") / re.sub(r"[^\w.-]+", "-", Path(options.what.rstrip("/")).name)
    release = load(options.what, repo=options.repo)
    wishes = request.Wishes(
        students=_words(options.students),
        seeds=_numbers(options.seeds),
        rows=_words(options.rows),
        protocol=options.protocol,
        epochs=options.epochs,
        all_sizes=options.sizes,
        curve=options.curve,
    )
    base = None if options.data is None else request.described(options.data, out)
    wanted, params = request.make(options.what, release, base, wishes)
    request.check_whitened(release, params, bool(options.teacher))
    folders = {str(folder.absolute()): open_artifact(folder, "teacher").digest for folder in options.teacher}
    wanted = wanted.model_copy(update={"teachers": list(folders), "teacher_digests": list(folders.values())})
    request.check_free(out, wanted)
    listed = _originals(out, params, release)
    same, result = request.write(out, wanted, params), out / "data" / "judgement"
    if not request.has_images(out, params, listed):
        _run("flows.images", out, options.what)
        request.note_listing(out, listed or {})
    if not same or not judgement.is_current(out):
        _run("flows.judging", out, options.what)
    found = judgement.load(out)
    for shown in pages.tables(found):
        print_table(shown.table())
    for note in pages.notes(found):
        print(logs.printable(note))
    for line in _not_run(wanted, found, hard=release.manifest["labels"] is None or release.transform is not None):
        print(line)
    print(f"Written: {result} (judgement.json, judgement.csv, judgement.md, metrics.json, index.html)")
    if dvcfile.write(out, found):
        print(f"In this workspace: dvc metrics show, dvc exp show, dvc plots show ({out / dvcfile.NAME})")


def _check_environment() -> None:
    """Raises `DataError` for variables that a run would refuse after its first stage, or would not read."""
    from dcpipe.shards import workers
    from dcpipe.training import pick_device, processes

    workers.wanted()
    processes.wanted(pick_device(os.environ.get("DCPIPE_DEVICE", "auto")))


def _originals(out: Path, params: Params, release: Release) -> dict[str, Any] | None:
    """The files of the original images, after a check that they have the classes of the set. None if they are not there
    any more, but were read before."""
    from dcpipe.judging import request

    out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(out):  # where the paths of the parameters hold
        try:
            listed = request.listing(params.images)
        except DataError as error:
            if not request.has_images(Path(), params, None):
                raise
            _log.warning("%s; going on with the images as they were read before", error)
            return None
        if not request.has_images(Path(), params, listed):
            request.check_classes(params.images, release)
        return listed


def _run(module: str, out: Path, what: str) -> None:
    """Run a stage in a folder."""
    done = subprocess.run([sys.executable, "-m", module], cwd=out, env=_environment(), check=False)
    require(
        done.returncode == 0,
        f"judging {what} stopped; its message is above, and the same command goes on from there",
    )


def _not_run(wanted: Request, found: Judgement, *, hard: bool) -> Iterator[str]:
    """Why rows that were wanted are not there, in sentences."""
    lacking = [row for row in wanted.rows if found.row(row, wanted.students[0]) is None]
    teacher = [row for row in ("uncompressed", "online") if row in lacking]
    if teacher and not hard:
        need = "need" if len(teacher) > 1 else "needs"
        yield (
            f"Not run: {' and '.join(teacher)}, which {need} the teacher that labelled the set; name it by --teacher "
            "FOLDER."
        )
    if "equal_bytes_soft" in lacking and not hard:
        yield (
            "Not run: equal_bytes_soft, because no teacher is at hand, or because just as many random images fit as "
            "the set has, which is the row random."
        )
    if "all_images_at_compute" in lacking:
        yield (
            "Not run: all_images_at_compute, because students of the set see fewer images in all than there are "
            "training images."
        )


def compare(options: argparse.Namespace) -> None:
    """Print judgements side by side."""
    from dcpipe.judging import comparing, judgement, pages

    judgements = {
        name: judgement.load(path) for name, path in zip(_names(options.judgements), options.judgements, strict=True)
    }
    comparing.check(judgements)
    shown = []
    for student in comparing.shared_students(list(judgements.values())):
        lines, notes = list(comparing.lines(judgements, student)), list(comparing.warnings(judgements, student))
        shown.append(pages.Shown(f"student {student}", comparing.COLUMNS, lines, notes))
    for part in shown:
        print_table(part.table())
        for note in part.notes:
            print(logs.printable(note))
    if options.out is not None:
        pictures = {"accuracy by bytes": pages.pareto(judgements)}
        options.out.write_text(pages.document("compared", [part.html() for part in shown], pictures), encoding="utf-8")
        print(f"Written: {options.out}")


def _names(paths: list[Path]) -> list[str]:
    """The shortest ends of some paths that tell them apart."""
    for depth in range(1, 1 + max(len(path.absolute().parts) for path in paths)):
        names = ["/".join(path.absolute().parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def _numbers(text: str) -> list[int]:
    words = _words(text)
    right = all(word.isascii() and word.isdigit() and len(word) < 10 for word in words)
    require(bool(words) and right, f"--seeds is {text!r}; give whole numbers below 1,000,000,000, as in 0,1,2")
    return [int(word) for word in words]


def _environment() -> dict[str, str]:
    """This process's own modules for the processes of stages, wherever they run."""
    paths = [path for path in sys.path if path and Path(path).is_dir()]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(str(Path(path).absolute()) for path in paths))}
