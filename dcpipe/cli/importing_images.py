"""`dcpipe import-images`: its options, its help, and its work."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = """\
Turn images that another project condensed into a release that `dcpipe.load(OUT)` opens:

    dcpipe import-images res_DM_CIFAR10_ConvNet_10ipc.pt dm-10 --normalised cifar10 --classes data/images
    dcpipe import-images data0.pt idc-10 --factor 2 --classes classes.txt
    dcpipe import-images syn_imagenet/ sre2l-10 --classes imagenet_classes.json

Formats, recognised by their content:

    pair       images….pt and labels….pt, hard or soft: MTT, DATM, DD-Ranking
    dc         res_….pt: DC, DSA, DM
    idc        data….pt: IDC, DREAM, MDC
    folders    class folders new000, 00000 or 0: SRe2L, CDA, EDC, RDED, D4M; or named by class
    parquet    a file or folder of the Hugging Face hub

Files may contain only tensors and plain numbers, and no code in them is run. What a file does not say has to be given:
the classes in the order of its labels (a folder such as data/images, a folder of class folders, a JSON list, or a text
file with a name per line), the constants it was normalised with, and the factor of grids. A guess is made only where
the values can refute it, and all that was assumed is printed and recorded in the release.

With --teacher, a trained network checks what the labels mean. An order of classes that it finds is printed, and applied
with --reorder. Values are clamped to 0..1 and rounded to 8 bits; the share that was clamped is printed.
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("source", type=Path, metavar="SOURCE", help="a file or folder that another project wrote")
    command.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet")
    command.add_argument("--format", default="auto", help="auto (default), pair, dc, idc, folders or parquet")
    command.add_argument("--classes", type=Path, help="class names in the order of labels: a folder, JSON or text file")
    command.add_argument("--teacher", type=Path, metavar="FOLDER", help="checks the order of the classes")
    command.add_argument("--reorder", action="store_true", help="apply the order that the teacher finds")
    command.add_argument(
        "--normalised",
        metavar="NAME",
        help="the constants of the values, by data set: cifar10, cifar100, svhn, mnist, fashionmnist, imagenet or "
        "tinyimagenet; none for values in 0..1",
    )
    command.add_argument("--mean", type=float, nargs=3, help="the constants of the values, in place of a name")
    command.add_argument("--std", type=float, nargs=3, help="as --mean; with --normalised none, those of students")
    command.add_argument("--factor", type=int, help="idc: images are grids of this many cells per side; 1 if not")
    command.add_argument("--by", choices=("images", "cells"), help="idc: what a smaller set takes (default: images)")
    command.add_argument("--experiment", type=int, help="dc: which result of the file (default: 0)")
    command.add_argument(
        "--classes-from",
        choices=("places", "labels"),
        help="soft labels: the class of an image is its place, or the largest entry of its label",
    )
    command.add_argument("--image-column", metavar="NAME", help="parquet: the column of images")
    command.add_argument("--label-column", metavar="NAME", help="parquet: the column of labels")
    command.add_argument("--temperature", type=float, default=1.0, help="default temperature of students (default: 1)")
    command.add_argument("--licence", default="unstated", help="of the images")
    command.add_argument("--force", action="store_true", help="import values that speak against what is stated of them")


def run(options: argparse.Namespace) -> None:
    """Import, and print what was read, assumed and written."""
    from dcpipe.interop import import_images
    from dcpipe.interop.pixels import Scale
    from dcpipe.interop.sets import Options
    from dcpipe.training import pick_device

    imported = import_images(
        options.source,
        options.out,
        form=options.format,
        options=Options(
            experiment=options.experiment,
            factor=options.factor,
            by=options.by,
            classes_from=options.classes_from,
            image_column=options.image_column,
            label_column=options.label_column,
        ),
        scale=Scale(
            options.normalised, *(None if given is None else tuple(given) for given in (options.mean, options.std))
        ),
        classes=options.classes,
        teacher=options.teacher,
        reorder=options.reorder,
        temperature=options.temperature,
        licence=options.licence,
        force=options.force,
        device=pick_device(os.environ.get("DCPIPE_DEVICE", "auto")),
    )
    for line in imported.lines():
        print(line)
    print(f"Imported to {options.out}. Next: dcpipe inspect {options.out}, or dcpipe.load({str(options.out)!r})")
