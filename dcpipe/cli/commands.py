"""The commands of `dcpipe` for a workspace. `dvc repro` builds it; these commands prepare, inspect and publish it.

A command imports what it needs when it runs, so that `--help` and `init` do not wait for the imports of others.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from dcpipe import logs
from dcpipe.cli import help_texts
from dcpipe.reports.printing import print_table
from dcpipe.stopping import write_any_text
from dcpipe.types import DataError, describe_os_error, require
from dcpipe.types.paths import local_path

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 2 after printing one line per mistake in the request to standard error (130 after
    Ctrl-C)."""
    write_any_text()
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run
    with logs.shown("dcpipe") as handler:
        try:
            handler.setLevel(logs.level(options.level))
            for name, value in vars(options).items():
                if isinstance(value, Path):
                    local_path(value, f"the argument {name}")
            run(options)
        except DataError as error:
            _log.error("%s", error)
            return 2
        except OSError as error:
            _log.error("%s", describe_os_error(error))
            return 2
        except KeyboardInterrupt:
            _log.error("stopped")
            return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dcpipe", description=help_texts.OVERVIEW, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"dcpipe {version('dcpipe')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(run: Callable[[argparse.Namespace], None], name: str, summary: str, lesson: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=lesson, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.set_defaults(run=run)
        logs.add_options(command)
        return command

    command = add(_init, "init", "make a workspace of a preset", help_texts.INIT)
    command.add_argument("preset", nargs="?", metavar="NAME", help="a preset; with --list, a word to look for")
    command.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="new or empty (default: the current one)")
    instead = command.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="list all presets, or those that contain NAME")
    instead.add_argument("--show", action="store_true", help="print the file instead of writing it")
    command.add_argument("--force", action="store_true", help="replace the params.yaml of a workspace that exists")
    command = add(_upgrade, "upgrade", "build with the installed version from now on", help_texts.UPGRADE)
    command.add_argument("--dry-run", action="store_true", help="only say what would change")
    command = add(_check, "check", "find mistakes in params.yaml without running anything", help_texts.CHECK)
    command.add_argument("file", nargs="?", type=Path, default=Path("params.yaml"), help="default: params.yaml")
    command.add_argument("--resolved", action="store_true", help="print the parameters with every default filled in")
    command = add(_plan, "plan", "tell what every stage will take, before anything runs", help_texts.PLAN)
    command.add_argument("file", nargs="?", type=Path, default=Path("params.yaml"), help="default: params.yaml")
    command.add_argument("--devices", default="1", metavar="N,M", help="numbers of devices, as in 1,8 (default: 1)")
    command.add_argument("--device", metavar="NAME", help="stored figures, such as h100; default: measure this machine")
    command.add_argument("--images", type=int, help="train images, if they are not here")
    command.add_argument("--classes", type=int, help="classes, with --images")
    command.add_argument("--test", type=int, help="test images, with --images (default: a 25th of the train images)")
    command.add_argument("--image-bytes", type=int, help="bytes of an encoded image, with --images")
    command.add_argument("--json", action="store_true", help="print exact numbers as JSON")
    command = add(_status, "status", "show which stages are built, the scores and the sizes", help_texts.STATUS)
    command.add_argument("--verify", action="store_true", help="verify every byte of every artifact below data/")
    command = add(_inspect, "inspect", "verify an artifact and list its arrays with their bytes", help_texts.INSPECT)
    command.add_argument("what", metavar="PATH_or_TAG", help="a folder, a file, NAME@vX.Y.Z, or the URL of a release")
    command.add_argument("--repo", help="git repository of the tag (path or URL; default: the current one)")
    add(_evaluate, "evaluate", "train students on the set and test them (`dvc repro evaluation`)", help_texts.EVALUATE)
    command = add(_study, "study", "compare selectors, codecs, syntheses, design choices", help_texts.STUDY)
    command.add_argument("name", nargs="?", metavar="NAME", help="a block of studies/params.yaml")
    command = add(_publish, "publish", "tag this commit as a release", help_texts.PUBLISH)
    command.add_argument("tag", metavar="NAME@vX.Y.Z")
    pushed = command.add_mutually_exclusive_group()
    pushed.add_argument("--no-push", action="store_true", help="do not copy the release to the DVC remote")
    pushed.add_argument("--with-stages", action="store_true", help="copy the outputs of all stages, source images too")
    command = add(_pull, "pull", "fetch a release by its tag or URL", help_texts.PULL)
    command.add_argument("what", metavar="TAG_or_URL", help="NAME@vX.Y.Z, or s3://, gs://, hf:// or https://")
    command.add_argument("--repo", help="git repository of the tag (path or URL; default: the current one)")
    command.add_argument(
        "--out", type=Path, help="a folder that does not exist yet (default: NAME-vX.Y.Z, or the last part of the URL)"
    )
    command = add(_export, "export", "write a release as folders, Parquet or tensors", help_texts.EXPORT)
    command.add_argument("folder", type=Path, help="a folder that does not exist yet")
    command.add_argument(
        "--release", default="data/release", metavar="PATH_or_TAG", help="or a URL; default: data/release"
    )
    command.add_argument("--repo", help="git repository of the tag (path or URL; default: the current one)")
    command.add_argument("--ipc", type=int, help="only the first IPC images of every class")
    command.add_argument("--format", default="folder", help="folder (default), parquet or ddranking")
    command.add_argument("--images-only", action="store_true", help="leave the soft labels out")
    command.add_argument("--logits", action="store_true", help="parquet: include the soft labels")
    command = add(
        _import_labels, "import-labels", "turn another program's soft labels into a release", help_texts.IMPORT
    )
    command.add_argument("store", type=Path, metavar="STORE", help="the folder of epoch_*/batch_*.tar")
    command.add_argument("images", type=Path, metavar="IMAGES", help="the labelled images, one folder per class")
    command.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet")
    command.add_argument("--codec", default="none", help="default: none, which stores the fp16 logits")
    command.add_argument("--ratio", type=float, help="how many times smaller than fp16 the labels must be")
    command.add_argument("--bytes-per-image", type=float, help="budget, instead of --ratio")
    command.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the codec; can be repeated"
    )
    command.add_argument("--layout", default="auto", help="auto (default), edc, lpld or sre2l")
    command.add_argument("--seed", type=int, default=42, help="of the sampler, for layout sre2l (default: 42)")
    command.add_argument("--size", type=int, help="side of a view in pixels (default: that of the images)")
    command.add_argument(
        "--temperature", type=float, default=20.0, help="default temperature of students (default: 20)"
    )
    command.add_argument("--mean", type=float, nargs=3, help="for the normalisation of students (default: ImageNet's)")
    command.add_argument("--std", type=float, nargs=3, help="for the normalisation of students (default: ImageNet's)")
    command.add_argument("--licence", default="unstated", help="of the images")
    command.add_argument("--force", action="store_true", help="import labels that do not agree with the classes")
    add(_clean, "clean", "delete unfinished work", help_texts.CLEAN)
    return parser


def _init(options: argparse.Namespace) -> None:
    from dcpipe.config import presets

    if options.list:
        Console(width=presets.WIDTH).print(presets.listing(options.preset or ""))
        return
    require(
        options.preset is not None,
        "init needs the name of a preset; type `dcpipe init digits` for the smallest, `dcpipe init --list` to see all",
    )
    text = presets.text(options.preset)
    if options.show:
        print(text, end="")
        return
    from dcpipe.workspace import links, making

    root: Path = options.folder or Path()
    if making.is_workspace(root):
        target = root / "params.yaml"
        require(options.force or not target.exists(), f"{target} exists; --force replaces it")
        target.write_text(text, encoding="utf-8")
        told, made = links.set_up(root.absolute()), f"Wrote {target} from preset {options.preset}."
    else:
        told, made = making.make(root, text), f"Made a workspace of preset {options.preset} in {root.absolute()}."
    for line in told:
        print(line)
    print(f"{made} Next: {'' if options.folder is None else f'cd {shlex.quote(str(root))} && '}dvc repro")


def _upgrade(options: argparse.Namespace) -> None:
    from dcpipe.workspace.upgrading import upgrade

    found = upgrade(Path.cwd())
    for line in found.lines():
        print(line)
    if not options.dry_run:
        found.apply()


def _check(options: argparse.Namespace) -> None:
    from dcpipe.cli import checking

    if options.resolved:
        print(checking.resolved(options.file), end="")
        return
    for line in checking.report(options.file):
        print(line)


def _plan(options: argparse.Namespace) -> None:
    from dcpipe.cli import planning
    from dcpipe.planning import table
    from dcpipe.planning.counts import Given

    given = Given(options.images, options.classes, options.test, options.image_bytes)
    found = planning.plan(options.file, given, planning.numbers(options.devices), options.device)
    if options.json:
        print(json.dumps(table.as_json(found), indent=1))
        return
    print_table(table.table(found))
    for sentence in table.sentences(found):
        print(sentence)


def _status(options: argparse.Namespace) -> None:
    from dcpipe.reports import tables, verification

    if not options.verify:
        print_table(tables.status(Path.cwd()))
        return
    found = verification.verify_all(Path.cwd() / "data")
    for line in found.lines(Path.cwd()):
        print(line)
    if found.damaged:
        raise DataError("\n".join(found.damaged))
    print(f"{len(found.whole)} artifacts are whole." if found.whole else "There is no artifact below data/ yet.")


def _inspect(options: argparse.Namespace) -> None:
    from dcpipe.release import remote, tags
    from dcpipe.reports import tables
    from dcpipe.types.paths import is_url

    path = Path(options.what)
    if is_url(options.what):
        path = remote.fetch(options.what)
    elif tags.TAG.fullmatch(options.what) and not path.exists():
        path = tags.fetch(options.what, options.repo)
    # Shapes must not be cut off at the width of the terminal.
    Console(soft_wrap=True).print(tables.inspect(path))


def _evaluate(options: argparse.Namespace) -> None:
    _reproduce("evaluation", options.level)


def _reproduce(target: str, level: str | None) -> None:
    """Reproduce a stage of DVC, which says as much as this command. Raises `DataError` if that fails."""
    said = {} if level is None else {logs.VARIABLE: level}
    done = subprocess.run([sys.executable, "-m", "dvc", "repro", target], env={**os.environ, **said}, check=False)
    require(done.returncode == 0, f"`dvc repro {target}` failed; its message is above")


def _study(options: argparse.Namespace) -> None:
    from dcpipe import studies

    studies.check_name(options.name)
    target = f"studies/dvc.yaml:{options.name}"
    require(
        Path("studies/dvc.yaml").is_file(),
        f"{Path.cwd()} has no studies/dvc.yaml; change to the workspace's folder, or copy studies/ of dcpipe there",
    )
    _reproduce(target, options.level)
    folder, study = Path("data/study") / options.name, studies.STUDIES[options.name]
    print_table(study.table(folder / "summary.csv"))
    first, *others = (folder / f"{name}.png" for name in study.figures)
    figures = [str(first), *(str(other) for other in others if other.is_file())]  # some are drawn only on request
    line = f"Figure{'s' if len(figures) > 1 else ''}: {' and '.join(figures)}"
    print(f"{line}; pictures of the images: {folder / study.pictures}" if study.pictures else line)


def _publish(options: argparse.Namespace) -> None:
    from dcpipe.release import publish

    publish(options.tag, push=not options.no_push, with_stages=options.with_stages)


def _pull(options: argparse.Namespace) -> None:
    from dcpipe.release import pull
    from dcpipe.reports.columns import human

    out = options.out or Path(options.what.rstrip("/").rpartition("/")[2].replace("@", "-"))
    artifact = pull(options.what, options.repo, out)
    size = sum(record["bytes"] for record in artifact.files.values())
    print(f"Pulled {options.what} to {out}: {human(size)} in {len(artifact.files)} files, all verified.")


def _export(options: argparse.Namespace) -> None:
    from dcpipe.release import export, load

    release = load(options.release, repo=options.repo, ipc=options.ipc)
    labels = options.logits if options.format == "parquet" else not options.images_only
    export(release, options.folder, form=options.format, labels=labels)
    print(f"Exported {len(release.images)} images of {len(release.classes)} classes to {options.folder}.")


def _import_labels(options: argparse.Namespace) -> None:
    import yaml
    from rich.progress import Progress

    from dcpipe.compression.budget import Budget
    from dcpipe.interop import import_labels
    from dcpipe.interop.importing import IMAGENET_MEAN, IMAGENET_STD
    from dcpipe.training import pick_device

    pairs = [option.partition("=") for option in options.option]
    require(all(equals for _, equals, _ in pairs), f"--option takes NAME=VALUE, got {options.option}")
    try:
        settings = {name: yaml.safe_load(value) for name, _, value in pairs}
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"--option takes NAME=VALUE with a plain value, got {options.option}") from error
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task("import-labels", total=None)
        imported = import_labels(
            options.store,
            options.images,
            options.out,
            budget=Budget(options.codec, settings, options.ratio, bytes_per_image=options.bytes_per_image),
            layout=options.layout,
            seed=options.seed,
            size=options.size,
            temperature=options.temperature,
            mean=tuple(options.mean or IMAGENET_MEAN),
            std=tuple(options.std or IMAGENET_STD),
            licence=options.licence,
            force=options.force,
            device=pick_device(os.environ.get("DCPIPE_DEVICE", "auto")),
            report=lambda done, total: bar.update(shown, completed=done, total=total),
        )
    for line in imported.lines():
        print(line)
    print(f"Imported to {options.out}. Next: dcpipe inspect {options.out}, or dcpipe.load({str(options.out)!r})")


def _clean(options: argparse.Namespace) -> None:
    from dcpipe.reports.columns import human
    from dcpipe.store import clean

    freed, locked = clean()
    for name in locked:
        print(f"Skipped {name}: a run is writing it.")
    print(f"Freed {human(freed)} of unfinished work.")
