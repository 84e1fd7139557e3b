"""The stage `synthesis` by matching trajectories (MTT), on one device: experts, then second derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcpipe.config.bases import base_of
from dcpipe.planning.stages import BASE, READ_GROWTH, Setting, manifest
from dcpipe.planning.work import Remedy, Stage, Work, batches

_FORWARD_BATCH = 512
_ROW = 100  # bytes about an expert in the record


def trajectories(setting: Setting, options: Mapping[str, Any]) -> Stage:
    """The stage with the resolved options of `mtt`, or of `mdc` on it. Experts that an earlier run has trained are
    counted again."""
    if setting.params.synthesis.method == "mdc":
        _, own = base_of("mdc", options)
        options = {**own, "subsets": {key: value for key, value in options.items() if key != "options"}}
    counts, size, name = setting.counts, setting.params.images.size, options["network"]
    epochs, taught = options["experts"] * options["expert_epochs"], min(options["expert_batch"], counts.train)
    passes = 1 if options["expert_rho"] is None else 2
    students, batch = options["iterations"] * options["steps"], min(options["batch"] or setting.stored, setting.stored)
    whole, left = divmod(options["steps"], batches(setting.stored, batch))
    # Chunks of a permutation: all images in each whole turn, and the first ones in the turn that is left.
    seen = options["iterations"] * (whole * setting.stored + left * batch)
    if options["subsets"]:  # as many steps again, of at most as many images: how many is chosen on the way
        seen, students = 2 * seen, 2 * students
    work = [
        setting.decode(counts.train),
        setting.encode(setting.stored),
        Work(
            "train",
            passes * epochs * counts.train,
            steps=passes * epochs * batches(counts.train, taught),
            name=name,
            size=size,
            batch=taught,
        ),
        Work("match", seen, steps=students, name=name, size=size, batch=batch),
    ]
    if options["through"] != "unrolled":
        work.append(Work("train", seen, steps=students, name=name, size=size, batch=batch))
    # Of the last weights of an expert: its accuracy, then what chooses images and labels.
    passed = options["experts"] * (counts.train + (setting.stored if options["lr_labels"] is not None else 0))
    passed += counts.train if options["initial"] == "predicted" else 0
    work.append(Work("forward", passed, name=name, size=size, batch=_FORWARD_BATCH))
    found, real = setting.figures(name, size), setting.decoded(counts.train)
    labels = 0 if options["lr_labels"] is None else 4 * setting.stored * counts.classes
    d = 0 if options["whitening"] is None else 3 * size**2
    transform, matrices = 2 * d * (d + 3), 4 * 8 * d**2  # half a matrix and a mean in float32; what fits it in float64
    graphs = options["steps"] if options["through"] == "unrolled" else 1
    return Stage(
        "synthesis",
        (*work, Work("read", setting.table_bytes)),
        n_bytes=setting.set_bytes + manifest(5) + _ROW * options["experts"] + labels + transform,
        files=5,
        scratch=8 * setting.pixels + (epochs + options["experts"]) * found.weights + 8 * d**2,
        host=BASE + real + int(READ_GROWTH * setting.pixels),
        device=real
        + 12 * setting.pixels
        + 3 * graphs * batch * found.outputs
        + (options["steps"] + 8) * found.weights
        + matrices,
        remedy=Remedy(disk="synthesis.options.experts", host="images.size", device="synthesis.options.batch"),
    )
