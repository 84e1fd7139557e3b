"""`dcpipe`: the workspace's commands. Building is `dvc repro`; everything here is before it, after it, or beside it.

A command imports what it needs when it runs, so that `--help` and `init` do not wait for the libraries of the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from dcpipe import presets
from dcpipe.types import DataError, require

_OVERVIEW = """\
Turn an image-classification dataset into a condensed one: a few real images a class
and the compressed soft labels of their augmented views.

A workspace is a git repository with params.yaml (what the dataset is) and dvc.yaml (how it is made):

    dcpipe init digits        write params.yaml from a preset; `dcpipe init --list` shows them all
    dvc repro                 run the stages that are stale; interrupt it when you like, run it again to go on
    dcpipe status             what is made, how accurate its students are, what it weighs
    dcpipe study selection    compare selectors on this dataset, with error bars
    git commit -am "Build"    params.yaml and dvc.lock are the version
    dcpipe publish digits-score@v1.0.0

and for whoever receives it:

    dcpipe pull digits-score@v1.0.0 --repo URL --out digits
    python -c 'import dcpipe; print(len(dcpipe.load("digits").dataset()))'
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 with one line on standard error when something is wrong with what was asked."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    except DataError as error:
        print(f"dcpipe: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dcpipe", description=_OVERVIEW, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(run: Callable[[argparse.Namespace], None], name: str, summary: str, lesson: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=lesson, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.set_defaults(run=run)
        return command

    command = add(_init, "init", "write params.yaml from a preset", _INIT)
    command.add_argument("preset", nargs="?", help="a name that --list shows")
    command.add_argument("--list", action="store_true", help="show the presets, with cost and published accuracy")
    command.add_argument("--force", action="store_true", help="replace a params.yaml that exists")
    add(_status, "status", "what is made, how good it is, what it weighs", _STATUS)
    command = add(_inspect, "inspect", "every array of an artifact, byte by byte", _INSPECT)
    command.add_argument("what", metavar="PATH_or_TAG", help="a folder, a file, or NAME@vX.Y.Z")
    command.add_argument("--repo", help="git repository of the tag (path or URL; default: the current one)")
    add(_evaluate, "evaluate", "train students on the set and test them (`dvc repro evaluation`)", _EVALUATE)
    command = add(_study, "study", "compare selectors, or a selector's coefficients", _STUDY)
    command.add_argument("name", nargs="?", metavar="NAME", help="selection or coefficients")
    command = add(_publish, "publish", "tag this commit as a release", _PUBLISH)
    command.add_argument("tag", metavar="NAME@vX.Y.Z")
    command.add_argument("--no-push", action="store_true", help="leave the data in this workspace's own cache")
    command = add(_pull, "pull", "fetch a release by its tag", _PULL)
    command.add_argument("tag", metavar="NAME@vX.Y.Z")
    command.add_argument("--repo", help="git repository of the tag (path or URL; default: the current one)")
    command.add_argument("--out", type=Path, help="a folder that does not exist yet (default: NAME-vX.Y.Z)")
    command = add(_export, "export", "PNG folders and a dense label file, for other code", _EXPORT)
    command.add_argument("folder", type=Path, help="a folder that does not exist yet")
    command.add_argument("--release", default="data/release", metavar="PATH_or_TAG", help="default: data/release")
    command.add_argument("--repo", help="git repository of the tag (path or URL; default: the current one)")
    command.add_argument("--ipc", type=int, help="only the first IPC images of every class")
    command.add_argument("--images-only", action="store_true", help="leave the soft labels out")
    add(_clean, "clean", "delete unfinished work", _CLEAN)
    return parser


_INIT = """\
Write params.yaml from a preset. Presets are rows of published tables, or small sets for a CPU. Each says in its
first lines where its values come from, what accuracy was published, and what it costs to run. Edit the file
afterwards as you like; `dvc repro` finds out what a change makes stale.
"""
_STATUS = """\
Show each stage (made or not, its size on disk) and the score table. Sizes are measured, not computed:
images, labels and teacher are what must be shipped for a row's accuracy; `labels in fp16` is what the same soft labels
take uncompressed, 2 bytes for each image, view and class.
"""
_INSPECT = """\
List every file of an artifact or release, and in each file every array with its dtype, shape and bytes, then the
headers. Arrays are not loaded; a release is verified first.
"""
_EVALUATE = """\
Train students from scratch on the condensed set and on the baselines that params.yaml names, then test them once.
Runs `dvc repro evaluation`: what is up to date is not run again.
"""
_STUDY = """\
Select with many settings, train students on every coreset under the evaluation's one protocol, draw the result:

    selection      selectors compared, at each number of images a class (SCORE, Fig. 2)
    coefficients   alpha and beta of `score` moved, one at a time (SCORE, Fig. 4)

studies/params.yaml says which settings, images per class and seeds; params.yaml says the rest (teachers, views, codec
and budget, students), so that all coresets are labelled, packed and judged alike. Runs `dvc repro
studies/dvc.yaml:NAME`, and what it needs of the line (images, teachers, features) before it; interrupt it when you
like, run it again to go on.

data/study/NAME gets results.csv (a row a selector, ipc and seed), summary.csv, figure.png and, in picked/, the images.
"""
_PUBLISH = """\
Make the git tag NAME@vX.Y.Z, NAME being release.name of params.yaml. Before that, git must be clean, `dvc status` empty
and the tag new; then the data is copied to the default DVC remote. Without a remote, a local folder becomes it
(DCPIPE_REMOTE, or ~/.local/share/dcpipe/remote). The tag is yours to push: the last line says how.
"""
_PULL = """\
Fetch data/release as it was at a tag, through DVC, and verify it; `dvc get REPO data/release --rev TAG` fetches
the same files.
In Python, `dcpipe.load("NAME@vX.Y.Z", repo=...)` does it with a cache (DCPIPE_CACHE, or ~/.cache/dcpipe).
"""
_EXPORT = """\
Write FOLDER/00000/00000.png and so on (class by index, image by rank: sorted names are the right order), classes.json
and, for soft labels, labels.safetensors: logits fp16 [image, view, class] with the box and flip of every view.
"""
_CLEAN = """\
Delete what killed or changed stages left in the scratch folder (DCPIPE_SCRATCH, or .dcpipe/scratch), and say how much
that was. Finished artifacts stay, and so does the work of a stage that is running.
"""


def _init(options: argparse.Namespace) -> None:
    if options.list:
        Console().print(presets.listing())
        return
    require(options.preset is not None, f"name a preset: {', '.join(presets.names())}")
    target = Path("params.yaml")
    text = presets.text(options.preset)
    require(options.force or not target.exists(), "params.yaml exists; --force replaces it")
    target.write_text(text, encoding="utf-8")
    print(f"Wrote params.yaml from preset {options.preset}. Next: dvc repro")


def _status(options: argparse.Namespace) -> None:
    from dcpipe import tables

    Console().print(tables.status(Path.cwd()))


def _inspect(options: argparse.Namespace) -> None:
    from dcpipe import tables
    from dcpipe.release import load, tags

    path = Path(options.what)
    if tags.TAG.fullmatch(options.what) and not path.exists():
        path = load(options.what, repo=options.repo).path
    # Shapes are for reading in full: a terminal's width must not cut them.
    Console(soft_wrap=True).print(tables.inspect(path))


def _evaluate(options: argparse.Namespace) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", "repro", "evaluation"], check=False)
    require(done.returncode == 0, "`dvc repro evaluation` failed; its message is above")


def _study(options: argparse.Namespace) -> None:
    from dcpipe import studies, tables

    studies.check_name(options.name)
    target = f"studies/dvc.yaml:{options.name}"
    require(
        Path("studies/dvc.yaml").is_file(),
        f"{Path.cwd()} has no studies/dvc.yaml; change to the workspace's folder, or copy studies/ of dcpipe there",
    )
    done = subprocess.run([sys.executable, "-m", "dvc", "repro", target], check=False)
    require(done.returncode == 0, f"`dvc repro {target}` failed; its message is above")
    folder = Path("data/study") / options.name
    Console().print(tables.study_table(folder / "summary.csv"))
    print(f"Figure: {folder / 'figure.png'}; pictures of the picks: {folder / 'picked'}")


def _publish(options: argparse.Namespace) -> None:
    from dcpipe.release import publish

    publish(options.tag, push=not options.no_push)


def _pull(options: argparse.Namespace) -> None:
    from dcpipe.release import pull
    from dcpipe.tables import human

    out = options.out or Path(options.tag.replace("@", "-"))
    artifact = pull(options.tag, options.repo, out)
    size = sum(record["bytes"] for record in artifact.files.values())
    print(f"Pulled {options.tag} to {out}: {human(size)} in {len(artifact.files)} files, all verified.")


def _export(options: argparse.Namespace) -> None:
    from dcpipe.release import export, load

    release = load(options.release, repo=options.repo, ipc=options.ipc)
    export(release, options.folder, labels=not options.images_only)
    print(f"Exported {len(release.images)} images of {len(release.classes)} classes to {options.folder}.")


def _clean(options: argparse.Namespace) -> None:
    from dcpipe.store import clean
    from dcpipe.tables import human

    freed, held = clean()
    for name in held:
        print(f"Left {name} alone: a run is writing it.")
    print(f"Freed {human(freed)} of unfinished work.")


if __name__ == "__main__":
    sys.exit(main())
