"""Compression of soft labels. Each codec has one file and one line in `CODECS`.

A codec is a frozen dataclass whose fields are its settings. They are chosen by `plan` to fit a byte budget, stored as
JSON in the header of the pack, and sufficient to rebuild the codec. Images are encoded in blocks, batched on the
device, and blocks are joined along axis 0. So a killed run can resume, and the labels of all images are never in memory
at once.
"""

from __future__ import annotations

from dcpipe.compression.base import Codec, check_mix, join, payload, plan, rebuild
from dcpipe.config.registry import Registry

__all__ = ["CODECS", "Codec", "check_mix", "join", "payload", "plan", "rebuild"]

CODECS: Registry[type[Codec]] = Registry(
    "codec",
    "dcpipe.codecs",
    {
        "cur": "dcpipe.compression.cur:Cur",
        "field": "dcpipe.compression.field:Field",
        "lowrank_int8": "dcpipe.compression.lowrank_int8:LowrankInt8",
        "mean_label": "dcpipe.compression.mean_label:MeanLabel",
        "none": "dcpipe.compression.none:NoCodec",
        "prune": "dcpipe.compression.prune:Prune",
        "prune_topk": "dcpipe.compression.prune_topk:PruneTopk",
        "rpca": "dcpipe.compression.rpca:Rpca",
        "rsvd": "dcpipe.compression.rsvd:Rsvd",
        "svd": "dcpipe.compression.svd:Svd",
        "topk": "dcpipe.compression.topk:Topk",
        "zipf": "dcpipe.compression.zipf:Zipf",
    },
    ("shape", "budget"),
)
