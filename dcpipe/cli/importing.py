"""`dcpipe import-labels`: another program's soft labels as a release."""

from __future__ import annotations

import argparse
import os

import yaml
from rich.console import Console
from rich.progress import Progress

from dcpipe import interop
from dcpipe.compression.budget import Budget
from dcpipe.interop.importing import IMAGENET_MEAN, IMAGENET_STD
from dcpipe.training import pick_device
from dcpipe.types import DataError, require


def import_labels(options: argparse.Namespace) -> None:
    """Import as the options of the command say, with a progress bar, and print what was imported."""
    pairs = [option.partition("=") for option in options.option]
    require(all(equals for _, equals, _ in pairs), f"--option takes NAME=VALUE, got {options.option}")
    try:
        settings = {name: yaml.safe_load(value) for name, _, value in pairs}
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"--option takes NAME=VALUE with a plain value, got {options.option}") from error
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task("import-labels", total=None)
        imported = interop.import_labels(
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
