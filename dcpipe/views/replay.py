"""Views of a set of images, drawn anew by a policy or looked up where another program took them.

Views that another program took have no law to draw them by: their numbers are kept (`KeptViews`). `views_of` gives
either as a `ViewSet`; users need not know which it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types import IntArray, KeptViews, ViewLaw, ViewPolicy
from dcpipe.views.crop import crop, paste, take
from dcpipe.views.draw import Views, draw


class ViewSet(Protocol):
    """The views of a set of images, whoever took them."""

    def own(self, rows: IntArray, numbers: IntArray) -> Views:
        """View `numbers[j]` of image `rows[j]`."""
        ...

    def partners(self, rows: IntArray, numbers: IntArray, drawn: Views) -> Views:
        """How the images pasted into these views, `drawn`, were cut and flipped themselves."""
        ...


@dataclass(frozen=True, eq=False)
class Seeded:
    """Views drawn by a policy, for images of these ids; any number names a view. A mixed-in partner is seen in the
    same view number: A(partner, v), SRe2L's batch-wise CutMix made stateless."""

    policy: ViewPolicy
    ids: IntArray

    def own(self, rows: IntArray, numbers: IntArray) -> Views:
        """Drawn, see `draw`."""
        return draw(self.policy, self.ids[rows], numbers, len(self.ids))

    def partners(self, rows: IntArray, numbers: IntArray, drawn: Views) -> Views:
        """The same number of the partner's views."""
        return draw(self.policy, self.ids[drawn.partner], numbers, len(self.ids))


@dataclass(frozen=True, eq=False)
class Kept:
    """Views looked up; numbers beyond those kept wrap round, as there is no law to draw fresh ones from."""

    views: KeptViews

    def own(self, rows: IntArray, numbers: IntArray) -> Views:
        """As they were taken."""
        box, flip = self._at("box", rows, numbers), self._at("flip", rows, numbers)
        if self.views.mix == "none":
            partner, mix_box = np.zeros(len(rows), dtype=np.int64), np.zeros((len(rows), 4))
        else:
            partner = self._at("partner", rows, numbers).astype(np.int64)
            mix_box = self._at("mix_box", rows, numbers) / self.views.size
        return Views(box.astype(np.float64), flip.astype(np.bool_), partner, mix_box, inside=True)

    def partners(self, rows: IntArray, numbers: IntArray, drawn: Views) -> Views:
        """As they were pasted, which may be a view that is not among the partner's own."""
        box, flip = self._at("partner_box", rows, numbers), self._at("partner_flip", rows, numbers)
        return replace(drawn, box=box.astype(np.float64), flip=flip.astype(np.bool_))

    def _at(self, name: str, rows: IntArray, numbers: IntArray) -> npt.NDArray[Any]:
        array = self.views.arrays[name]
        found: npt.NDArray[Any] = array[rows, numbers % array.shape[1]]
        return found


def views_of(law: ViewLaw, ids: IntArray) -> ViewSet:
    """The views of images `ids` i64 [n], which are rows 0..n-1."""
    return Kept(law) if isinstance(law, KeptViews) else Seeded(law, ids)


def look(
    images: torch.Tensor, law: ViewLaw, ids: IntArray, rows: IntArray, views: IntArray, size: int
) -> tuple[torch.Tensor, Views]:
    """View `views[j]` of row `rows[j]` of a set, mixed as the law says, with its parameters.

    `images` u8 [n, h, w, 3] on the device; `ids` i64 [n] of the whole set; returns f32 [m, 3, size, size].
    """
    whole = views_of(law, ids)
    drawn = whole.own(rows, views)
    own = crop(take(images, rows), drawn, size)
    if law.mix == "none":
        return own, drawn
    theirs = whole.partners(rows, views, drawn)
    return paste(own, crop(take(images, drawn.partner), theirs, size), drawn), drawn
