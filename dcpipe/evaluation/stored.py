"""Where the images and labels of a contender are on disk, in a form that can be sent to a worker."""

from __future__ import annotations

from dataclasses import dataclass

from dcpipe import store
from dcpipe.types import Ensemble, ViewPolicy


@dataclass(frozen=True)
class Stored:
    """The file of the images, and how their views are drawn, unless the pack says so itself.

    `pack`: the file of packed labels, `logits`: the store of uncompressed ones, "" for other labels; `teachers`: those
    that label every batch, averaged as `ensemble` says. Without any of them, labels are hard. `first`: only so many
    images per class are used, None for all. `whitening`: the file of the ZCA transform of the
    set, "" if there is none.
    """

    images: store.SetFile
    policy: ViewPolicy
    pack: str = ""
    teachers: tuple[store.Verified, ...] = ()
    first: int | None = None
    logits: str = ""
    ensemble: Ensemble = "mean"
    whitening: str = ""
