"""The stage `synthesis`: nothing to do, mosaics (RDED), recovery (SRe2L, CDA, G-VBSM, EDC), gradient matching,
matching of trajectories (MTT), or a diffusion model (D4M, MGD3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcpipe.config.bases import base_of
from dcpipe.config.check import SYNTHESIS
from dcpipe.planning.diffusion import METHODS as DIFFUSION
from dcpipe.planning.diffusion import diffusion
from dcpipe.planning.gradients import METHODS as MATCHING
from dcpipe.planning.gradients import matching
from dcpipe.planning.stages import BASE, READ_GROWTH, Setting, manifest
from dcpipe.planning.trajectories import trajectories
from dcpipe.planning.work import Remedy, Stage, Work, batches
from dcpipe.synthesis.recovery import MEASURES

BY_ROUNDS = ("sre2l", "cda")  # a batch has one image of each class
STATISTICS_BATCH = 256
_CROPS, _CROPS_BATCH = 5, 256  # of mosaics that recovery starts from


def synthesis(setting: Setting) -> Stage:
    """Makes the condensed images. The work of a method of another package is not known, and is left out."""
    method, (_, options) = setting.params.synthesis.method, SYNTHESIS.resolved(setting.params)
    if base_of(method, options)[0] == "mtt":
        return trajectories(setting, options)
    if method in MATCHING:
        return matching(setting, method, options)
    if method in DIFFUSION:
        return diffusion(setting, method, options)
    if method in MEASURES:
        return _recovered(setting, method, options)
    work = [setting.decode(setting.stored), setting.encode(setting.stored)]
    device, omitted = 0, ""
    if method == "rded":
        work, device = [*mosaics(setting, options), setting.encode(setting.stored)], _of_crops(setting, options)
    elif method != "none":
        omitted = f"synthesis method {method!r}, whose work is not known"
    return whole(setting, work, device=device, omitted=omitted, remedy="synthesis.options.batch_size")


def whole(
    setting: Setting,
    work: list[Work],
    *,
    host: int = 0,
    device: int = 0,
    scratch: int = 0,
    spread: str = "",
    remedy: str = "",
    omitted: str = "",
    files: int = 2,
) -> Stage:
    """The stage with some work; every method leaves a file of images. `host` is what it needs besides the images."""
    return Stage(
        "synthesis",
        (*work, Work("read", setting.table_bytes)),
        n_bytes=setting.set_bytes + manifest(files) + 40 * setting.counts.classes,
        files=files,
        scratch=scratch,
        host=BASE + int(READ_GROWTH * setting.pixels) + host,
        device=device,
        spread=spread,
        remedy=Remedy(disk="selection.ipc", host="selection.ipc", device=remedy),
        omitted=omitted,
    )


def observers(setting: Setting, options: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Name and input size of each observer."""
    return [setting.network(key) for key in options.get("observers") or setting.params.teacher.networks]


def mosaics(setting: Setting, options: Mapping[str, Any]) -> list[Work]:
    """The work of choosing crops of real images."""
    counts = setting.counts
    candidates = counts.classes * min(options["candidates"], batches(counts.train, counts.classes))
    amount, batch = candidates * options.get("crops", _CROPS), options.get("batch_size", _CROPS_BATCH)
    scored = [Work("forward", amount, name=name, size=size, batch=batch) for name, size in observers(setting, options)]
    return [setting.decode(counts.train), *scored]


def _of_crops(setting: Setting, options: Mapping[str, Any]) -> int:
    found = [setting.figures(*one) for one in observers(setting, options)]
    return sum(one.weights for one in found) + max(one.inference(options["batch_size"]) for one in found)


def _recovered(setting: Setting, method: str, options: Mapping[str, Any]) -> Stage:
    counts, stored, batch = setting.counts, setting.stored, options["batch_size"]
    pieces = batches(stored, batch)
    if method in BY_ROUNDS:
        pieces = setting.params.selection.ipc * batches(counts.classes, batch)
    batch, iterations, turns = min(batch, stored), options["iterations"], observers(setting, options)
    found = [setting.figures(*one) for one in turns]
    work = [setting.decode(stored), setting.encode(stored)]
    entries = 0
    if MEASURES[method]:
        entries = sum(one.entries for one in found)
        work += [setting.decode(counts.train)]
        work += [
            Work("forward", counts.train, name=name, size=size, batch=STATISTICS_BATCH) for name, size in set(turns)
        ]
    if options["initial"] == "rded":
        work += mosaics(setting, {**options, "batch_size": _CROPS_BATCH})
    for place, (name, size) in enumerate(turns):
        steps = len(range(place, iterations * pieces, len(turns)))
        samples = iterations * stored * (place + 1) // len(turns) - iterations * stored * place // len(turns)
        sam = bool(options.get("flat")) and options["flatness"] == "sam"
        step = Work("recover", samples, pieces, steps, name, size, batch, precision=options["precision"])
        work += [step] * (2 if sam else 1)
        if options.get("flat") and not sam:
            work.append(
                Work("forward", samples, pieces, name=name, size=size, batch=batch, precision=options["precision"])
            )
    held = 20 * batch * setting.params.images.size**2 * 3  # pixels, average, gradient and two moments, float32
    statistics = 8 * (counts.classes + 1) * entries
    return whole(
        setting,
        work,
        host=3 * statistics,
        device=held
        + 2 * statistics
        + max(2 * batch * one.outputs for one in found)
        + sum(one.weights for one in found),
        scratch=setting.pixels + held + statistics,
        spread="batches",
        remedy="synthesis.options.batch_size",
    )
