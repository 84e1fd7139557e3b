"""Compression of soft labels. One file a codec, one line in `CODECS`.

A codec is a frozen dataclass whose fields are its settings: chosen by `plan` to fit a byte budget, stored as JSON in
the pack's header, and enough to rebuild it. Images are encoded block by block, batched on the device; blocks are
joined along axis 0, so a killed run goes on and no store is ever held whole.
"""

from __future__ import annotations

from dcpipe.compression.base import Codec, check_mix, join, payload, plan, rebuild
from dcpipe.compression.cur import Cur
from dcpipe.compression.field import Field
from dcpipe.compression.lowrank_int8 import LowrankInt8
from dcpipe.compression.none import NoCodec
from dcpipe.compression.prune import Prune
from dcpipe.compression.prune_topk import PruneTopk
from dcpipe.compression.rpca import Rpca
from dcpipe.compression.rsvd import Rsvd
from dcpipe.compression.svd import Svd
from dcpipe.compression.topk import Topk
from dcpipe.compression.zipf import Zipf

__all__ = ["CODECS", "Codec", "check_mix", "join", "payload", "plan", "rebuild"]

CODECS: dict[str, type[Codec]] = {
    "cur": Cur,
    "field": Field,
    "lowrank_int8": LowrankInt8,
    "none": NoCodec,
    "prune": Prune,
    "prune_topk": PruneTopk,
    "rpca": Rpca,
    "rsvd": Rsvd,
    "svd": Svd,
    "topk": Topk,
    "zipf": Zipf,
}
