"""Compression of soft labels. One file a codec, one line in `CODECS`.

A codec is a frozen dataclass whose fields are its settings: chosen by `plan` to fit a byte budget, stored as JSON in
the pack's header, and enough to rebuild it. Images are encoded block by block, batched on the device; blocks are
joined along axis 0, so a killed run goes on and no store is ever held whole.
"""

from __future__ import annotations

from dcpipe.compression.none import NoCodec
from dcpipe.compression.prune import Prune
from dcpipe.compression.rpca import Rpca
from dcpipe.compression.seam import Codec, check_mix, join, payload, plan, rebuild
from dcpipe.compression.svd import Svd

__all__ = ["CODECS", "Codec", "check_mix", "join", "payload", "plan", "rebuild"]

CODECS: dict[str, type[Codec]] = {
    "none": NoCodec,
    "prune": Prune,
    "rpca": Rpca,
    "svd": Svd,
}
