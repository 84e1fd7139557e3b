"""The stage `synthesis` by a diffusion model (D4M): every real image is encoded, every condensed one denoised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcpipe.planning.stages import BASE, READ_GROWTH, Setting, manifest
from dcpipe.planning.work import Remedy, Stage, Work
from dcpipe.synthesis.diffusion.folder import CHANNELS, Folder
from dcpipe.synthesis.diffusion.latents import MOST_BYTES
from dcpipe.types import DataError


def diffusion(setting: Setting, options: Mapping[str, Any]) -> Stage:
    """The stage with the resolved options of `d4m`. How fast the model is, nobody knows beforehand, so hours leave it
    out and say how often it is called. Bytes of its weights and latents are left out if it is not on this machine."""
    counts = setting.counts
    weights = latent = 0
    try:
        folder = Folder.of(options["model"])
        weights, latent = folder.weight_bytes, 4 * CHANNELS * folder.latent_side**2
    except DataError:  # the stage raises it again
        pass
    each = min(options["prototypes_per_class"] or setting.params.selection.ipc, setting.params.selection.ipc)
    sides = 2 if options["guidance"] > 1 else 1
    passes = setting.stored * int(options["steps"] * options["strength"]) * sides
    return Stage(
        "synthesis",
        (setting.decode(counts.train), setting.encode(setting.stored), Work("read", setting.table_bytes)),
        n_bytes=setting.set_bytes + manifest(4),
        files=4,
        scratch=setting.pixels + counts.classes * each * latent,
        host=BASE + 2 * weights + min(MOST_BYTES, counts.train * latent) + int(READ_GROWTH * setting.pixels),
        device=weights,
        remedy=Remedy(disk="selection.ipc", host="selection.ipc", device="synthesis.options.batch_size"),
        omitted=f"{counts.train:,} images through the encoder of the diffusion model and {passes:,} through its "
        "denoiser, whose speeds are not known",
    )
