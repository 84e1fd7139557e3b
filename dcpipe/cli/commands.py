"""The commands of `dcpipe` for a workspace. `dvc repro` builds it; these commands prepare, inspect and publish it.

A command imports what it needs when it runs, so that `--help` and `init` do not wait for the imports of others.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from dcpipe import logs
from dcpipe.cli import completion, help_texts, importing_images, judging
from dcpipe.cli.completion import commands_of
from dcpipe.reports.printing import print_table
from dcpipe.stopping import write_any_text
from dcpipe.types import DataError, describe_os_error, require
from dcpipe.types.names import one_of, similar
from dcpipe.types.paths import local_path

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 2 after printing one line per mistake in the request to standard error (130 after
    Ctrl-C)."""
    write_any_text()
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    if (unknown := _unknown(words, parser)) is not None:
        print(f"dcpipe: {unknown}", file=sys.stderr)
        return 2
    options = _parsed(words, parser)
    run: Callable[[argparse.Namespace], None] = options.run
    with logs.shown("dcpipe") as handler:
        try:
            handler.setLevel(logs.level(options.level))
            for name, value in vars(options).items():
                if isinstance(value, Path):
                    local_path(value, f"the argument {name}")
            run(options)
            sys.stdout.flush()
        except DataError as error:
            _log.error("%s", error)
            return 2
        except BrokenPipeError:  # whoever read what is printed, such as `head`, has enough
            with Path(os.devnull).open("w") as nowhere:  # so that Python finds no closed pipe when it ends
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            return 0
        except OSError as error:
            _log.error("%s", describe_os_error(error))
            return 2
        except KeyboardInterrupt:
            _log.error("stopped")
            return 130
    return 0


def _parsed(words: Sequence[str], parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments. `init NAME --data PATH DIR` is understood too: argparse takes no second optional argument after an
    option."""
    options, others = parser.parse_known_args(words)
    if len(others) == 1 and not others[0].startswith("-") and vars(options).get("folder", ()) is None:
        options.folder, others = Path(others[0]), []
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dcpipe", description=help_texts.OVERVIEW, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"dcpipe {version('dcpipe')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

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
    command.add_argument("--data", metavar="PATH", help="my-images: a folder, a list, a URL, or a set of torchvision")
    command.add_argument("--ipc", type=int, help="my-images: images per class (default: 10, or what all classes have)")
    instead = command.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="list all presets, or those that contain NAME")
    instead.add_argument("--show", action="store_true", help="print the file instead of writing it")
    command.add_argument("--force", action="store_true", help="replace the params.yaml of a workspace that exists")
    command.add_argument("--json", action="store_true", help="with --list: print JSON")
    command = add(_upgrade, "upgrade", "build with the installed version from now on", help_texts.UPGRADE)
    command.add_argument("--dry-run", action="store_true", help="only say what would change")
    command = add(_check, "check", "find mistakes in params.yaml without running anything", help_texts.CHECK)
    command.add_argument("file", nargs="?", type=Path, help="default: params.yaml of the workspace")
    printed = command.add_mutually_exclusive_group()
    printed.add_argument("--resolved", action="store_true", help="print the parameters with every default filled in")
    printed.add_argument("--json", action="store_true", help="print what was found as JSON")
    command = add(_plan, "plan", "tell what every stage will take, before anything runs", help_texts.PLAN)
    command.add_argument("file", nargs="?", type=Path, help="default: params.yaml of the workspace")
    command.add_argument("--devices", default="1", metavar="N,M", help="numbers of devices, as in 1,8 (default: 1)")
    command.add_argument("--device", metavar="NAME", help="stored figures, such as h100; default: measure this machine")
    command.add_argument("--images", type=int, help="train images, if they are not here")
    command.add_argument("--classes", type=int, help="classes, with --images")
    command.add_argument("--test", type=int, help="test images, with --images (default: a 25th of the train images)")
    command.add_argument("--image-bytes", type=int, help="bytes of an encoded image, with --images")
    command.add_argument("--storage", action="store_true", help="only bytes of labels, for several ipc and ratios")
    command.add_argument("--json", action="store_true", help="print exact numbers as JSON")
    command = add(_status, "status", "show which stages are built, the scores and the sizes", help_texts.STATUS)
    command.add_argument("--verify", action="store_true", help="verify every byte of every artifact below data/")
    command.add_argument("--json", action="store_true", help="print exact numbers as JSON")
    command = add(_inspect, "inspect", "verify an artifact and list its arrays with their bytes", help_texts.INSPECT)
    command.add_argument("what", metavar="PATH_or_TAG", help="a folder, a file, NAME@vX.Y.Z, or the URL of a release")
    command.add_argument("--repo", help="git repository of the tag (path or URL; default: the current one)")
    command.add_argument("--json", action="store_true", help="print exact numbers as JSON")
    add(_evaluate, "evaluate", "train students on the set and test them (`dvc repro evaluation`)", help_texts.EVALUATE)
    command = add(_study, "study", "compare selectors, codecs, syntheses, design choices", help_texts.STUDY)
    command.add_argument("name", nargs="?", metavar="NAME", help="a block of studies/params.yaml")
    command.add_argument("sweep", nargs="?", metavar="SWEEP", help="of `sweep`: the entry of its `sweeps` to run")
    judging.add_judge(add(judging.judge, "judge", "train students on any condensed set, and compare", help_texts.JUDGE))
    judging.add_compare(add(judging.compare, "compare", "show judgements side by side", help_texts.COMPARE))
    command = add(_publish, "publish", "tag this commit as a release", help_texts.PUBLISH)
    command.add_argument("tag", metavar="NAME@vX.Y.Z")
    pushed = command.add_mutually_exclusive_group()
    pushed.add_argument("--no-push", action="store_true", help="do not copy the release to the DVC remote")
    command.add_argument(
        "--remote", metavar="PATH_or_URL", help="where to copy it if no DVC remote is set; becomes the default remote"
    )
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
    about = "turn another project's images into a release"
    importing_images.add_arguments(add(importing_images.run, "import-images", about, importing_images.HELP))
    add(_clean, "clean", "delete unfinished work", help_texts.CLEAN)
    command = add(_completion, "completion", "print a script by which a shell completes", help_texts.COMPLETION)
    command.add_argument("shell", metavar="SHELL", help="bash, zsh, fish or tcsh")
    return parser


def _unknown(words: Sequence[str], parser: argparse.ArgumentParser) -> str | None:
    """What to say of a command that does not exist; None if there is none."""
    known = commands_of(parser)
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None or name in known:
        return None
    meant = similar(name, list(known))
    hint = f"did you mean {one_of(meant)}? " if meant else ""
    return f"unknown command {name!r}; {hint}`dcpipe --help` shows all"


def _enter_workspace() -> bool:
    """Change to the workspace around the current folder, because paths in its parameters are relative to it. Returns
    whether there is one."""
    from dcpipe.workspace.finding import root_of

    root = root_of(Path.cwd())
    if root is not None and root != Path.cwd():
        print(f"In the workspace {root}:", file=sys.stderr)
        os.chdir(root)
    return root is not None


def _params(given: Path | None) -> Path:
    """The parameter file that was given, or that of the workspace."""
    require(
        given is not None or _enter_workspace(),
        f"{Path.cwd()} is in no workspace, because neither it nor a folder above it has params.yaml; change to one, or "
        "make one with `dcpipe init PRESET DIR`",
    )
    return given or Path("params.yaml")


def _init(options: argparse.Namespace) -> None:
    from dcpipe.config import presets

    if options.list and options.json:
        print(json.dumps(presets.as_json(options.preset or ""), indent=1, ensure_ascii=False))
        return
    require(not options.json, "--json is for the list of presets; write `dcpipe init --list --json`")
    if options.list:
        Console(width=presets.WIDTH).print(presets.listing(options.preset or ""))
        return
    require(
        options.preset is not None,
        "init needs the name of a preset; type `dcpipe init digits` for the smallest, `dcpipe init --list` to see all",
    )
    root: Path = options.folder or Path()
    text = _params_text(options, root)
    if options.show:
        print(text, end="")
        return
    from dcpipe.workspace import links, making

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


def _params_text(options: argparse.Namespace, root: Path) -> str:
    """The text of the params.yaml that `init` writes: that of a preset, or one for the images at --data."""
    from dcpipe.config import presets

    if options.preset != "my-images":
        require(
            options.data is None and options.ipc is None,
            f"--data and --ipc are for images of your own: `dcpipe init my-images --data PATH`, not {options.preset}",
        )
        return presets.text(options.preset)
    from dcpipe.workspace import own_images

    if options.data is None:
        require(options.show, own_images.missing_data())
        return presets.text(options.preset)
    return own_images.text(options.data, root, options.ipc)


def _upgrade(options: argparse.Namespace) -> None:
    from dcpipe.workspace.upgrading import upgrade

    found = upgrade(Path.cwd())
    for line in found.lines():
        print(line)
    if not options.dry_run:
        found.apply()


def _check(options: argparse.Namespace) -> None:
    file = _params(options.file)
    from dcpipe.cli import checking

    if options.resolved:
        print(checking.resolved(file), end="")
        return
    found = checking.check_all(file)
    if options.json:
        print(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    if found.mistakes:
        raise DataError("\n".join(found.mistakes))
    if not options.json:
        for line in found.lines():
            print(line)


def _plan(options: argparse.Namespace) -> None:
    file = _params(options.file)
    from dcpipe.cli import planning
    from dcpipe.planning import storage, table
    from dcpipe.planning.counts import Given

    given = Given(options.images, options.classes, options.test, options.image_bytes)
    if options.storage:
        params, classes = planning.counted(file, given)
        if options.json:
            print(json.dumps(storage.storage(params, classes), indent=1))
        else:
            print_table(storage.table(params, classes))
        return
    found = planning.plan(file, given, planning.numbers(options.devices), options.device)
    if options.json:
        print(json.dumps(table.as_json(found), indent=1))
        return
    print_table(table.table(found))
    for sentence in table.sentences(found):
        print(sentence)


def _status(options: argparse.Namespace) -> None:
    from dcpipe.cli import showing

    _enter_workspace()
    if options.verify:
        showing.verification(Path.cwd(), options.json)
    else:
        showing.status(Path.cwd(), options.json)


def _inspect(options: argparse.Namespace) -> None:
    from dcpipe.cli import showing

    showing.inspect(options.what, options.repo, options.json)


def _evaluate(options: argparse.Namespace) -> None:
    from dcpipe.cli import reproducing

    _enter_workspace()
    reproducing.evaluate(options.level)


def _study(options: argparse.Namespace) -> None:
    from dcpipe.cli import reproducing

    _enter_workspace()
    reproducing.study(options.name, options.level, options.sweep)


def _publish(options: argparse.Namespace) -> None:
    from dcpipe.release import publish

    require(not (options.no_push and options.remote), "--remote is where to push; leave --no-push out")
    _enter_workspace()
    publish(options.tag, push=not options.no_push, with_stages=options.with_stages, remote=options.remote)


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
    from dcpipe.cli import importing

    importing.import_labels(options)


def _clean(options: argparse.Namespace) -> None:
    from dcpipe.reports.columns import human
    from dcpipe.store import clean

    freed, locked = clean()
    for name in locked:
        print(f"Skipped {name}: a run is writing it.")
    print(f"Freed {human(freed)} of unfinished work.")


def _completion(options: argparse.Namespace) -> None:
    print(completion.script(_parser(), options.shell))
