"""The stage `synthesis` by a diffusion model: every real image is encoded if prototypes are needed (D4M, MGD3), and
every condensed one denoised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcpipe.planning.stages import BASE, READ_GROWTH, Setting, manifest
from dcpipe.planning.work import Remedy, Stage, Work
from dcpipe.synthesis.diffusion.folder import CHANNELS, Folder
from dcpipe.synthesis.diffusion.latents import MOST_BYTES
from dcpipe.types import DataError

# The methods, and whether they encode the real images.
METHODS = {"d4m": True, "mgd3": True, "generate": False}


def diffusion(setting: Setting, method: str, options: Mapping[str, Any]) -> Stage:
    """The stage with the resolved options of a method. How fast the model is, nobody knows beforehand, so hours leave
    it out and say how often it is called. Bytes of its weights and latents are left out if it is not on this
    machine."""
    encodes, counts = METHODS[method], setting.counts
    real = counts.train if encodes else 0  # images that are encoded
    weights = latent = 0
    try:
        folder = Folder.of(options["model"], method)
        weights, latent = folder.weight_bytes, 4 * CHANNELS * folder.latent_side**2
    except DataError:  # the stage raises it again
        pass
    each = (
        0
        if not encodes
        else min(options.get("prototypes_per_class") or setting.params.selection.ipc, setting.params.selection.ipc)
    )
    guidance = options["guidance"]
    sides = 2 if guidance is None or guidance > 1 else 1  # without a scale it is more than 1
    passes = setting.stored * int(options["steps"] * options.get("strength", 1)) * sides
    images = f"{real:,} images through the encoder of the diffusion model and " if encodes else ""
    work = [setting.encode(setting.stored), Work("read", setting.table_bytes)]
    return Stage(
        "synthesis",
        (setting.decode(real), *work) if encodes else tuple(work),
        n_bytes=setting.set_bytes + manifest(4),
        files=4,
        scratch=setting.pixels + counts.classes * each * latent,
        host=BASE + 2 * weights + min(MOST_BYTES, real * latent) + int(READ_GROWTH * setting.pixels),
        device=weights,
        remedy=Remedy(disk="selection.ipc", host="selection.ipc", device="synthesis.options.batch_size"),
        omitted=f"{images}{passes:,} through {'its denoiser' if encodes else 'the denoiser of the diffusion model'}, "
        f"{'whose speeds are' if encodes else 'whose speed is'} not known",
    )
