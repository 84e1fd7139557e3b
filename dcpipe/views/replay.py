"""Views of a set of images, either drawn from a policy or looked up in stored parameters.

Views that another program made cannot be drawn again from a seed, so their parameters are stored (`StoredViews`).
`views_of` returns either kind as a `ViewSet`, and callers need not know which one it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types import IntArray, StoredViews, ViewPolicy, ViewSource
from dcpipe.views.crop import crop_prepared, paste_box
from dcpipe.views.device import send
from dcpipe.views.draw import Views, draw
from dcpipe.views.prepared import PreparedViews, prepare


class ViewSet(Protocol):
    """The views of a set of images, drawn or stored."""

    def parameters(self, rows: IntArray, numbers: IntArray) -> Views:
        """The parameters of view `numbers[j]` of image `rows[j]`, for every j."""
        ...

    def partners(self, rows: IntArray, numbers: IntArray, drawn: Views) -> Views:
        """How the images that are pasted into the views `drawn` are cropped and flipped themselves."""
        ...


@dataclass(frozen=True, eq=False)
class Seeded:
    """Views drawn from a policy, for images with these ids; there is a view for every number.

    A CutMix partner appears in the same view number, A(partner, v). This is SRe2L's batch-wise CutMix made stateless.
    """

    policy: ViewPolicy
    ids: IntArray

    def parameters(self, rows: IntArray, numbers: IntArray) -> Views:
        """Parameters as `draw` draws them."""
        return draw(self.policy, self.ids[rows], numbers, len(self.ids))

    def partners(self, rows: IntArray, numbers: IntArray, drawn: Views) -> Views:
        """The views of the partners with the same numbers."""
        return draw(self.policy, self.ids[drawn.partner], numbers, len(self.ids))


@dataclass(frozen=True, eq=False)
class Stored:
    """Views looked up in stored parameters. Numbers beyond the stored ones wrap round, because there is no policy to
    draw new views from."""

    views: StoredViews

    def parameters(self, rows: IntArray, numbers: IntArray) -> Views:
        """The stored parameters."""
        box, flip = self._at("box", rows, numbers), self._at("flip", rows, numbers)
        if self.views.mix == "none":
            partner, mix_box = np.zeros(len(rows), dtype=np.int64), np.zeros((len(rows), 4))
        else:
            partner = self._at("partner", rows, numbers).astype(np.int64)
            mix_box = self._at("mix_box", rows, numbers) / self.views.size
        return Views(box.astype(np.float64), flip.astype(np.bool_), partner, mix_box, inside=True)

    def partners(self, rows: IntArray, numbers: IntArray, drawn: Views) -> Views:
        """The stored parameters of the pasted images. They need not be among the views of the partner itself."""
        box, flip = self._at("partner_box", rows, numbers), self._at("partner_flip", rows, numbers)
        return replace(drawn, box=box.astype(np.float64), flip=flip.astype(np.bool_))

    def _at(self, name: str, rows: IntArray, numbers: IntArray) -> npt.NDArray[Any]:
        array = self.views.arrays[name]
        values: npt.NDArray[Any] = array[rows, numbers % array.shape[1]]
        return values


def views_of(source: ViewSource, ids: IntArray) -> ViewSet:
    """The views of the images with these ids, i64 [n], which are rows 0..n - 1."""
    return Stored(source) if isinstance(source, StoredViews) else Seeded(source, ids)


@dataclass(frozen=True, eq=False)
class Placed:
    """m views of images of a set, with everything that their pixels depend on on the device. A slice of them shares
    their memory, so its pixels need no copy to the device.

    `rows` i64 [m] are rows of the set; `partner_rows` i64 [m] and `partners` are the images that are pasted, None
    without a mix.
    """

    rows: torch.Tensor
    own: PreparedViews
    partner_rows: torch.Tensor | None = None
    partners: PreparedViews | None = None

    @classmethod
    def of(
        cls,
        images: torch.Tensor,
        rows: IntArray,
        drawn: Views,
        partners: Views | None,
        size: int,
        normalised: bool = False,
    ) -> Placed:
        """Views `drawn` of the given rows of a set `images` u8 [n, h, w, 3], or f32 if they are `normalised` or
        whitened already. `partners` are the views of the pasted images, None without a mix."""
        (height, width), device, mixed = images.shape[1:3], images.device, partners is not None
        own = prepare(drawn, size, height, width, device, mixed, normalised)
        if partners is None:
            return cls(send(rows, device), own)
        pasted = prepare(partners, size, height, width, device, False, normalised)
        return cls(send(rows, device), own, send(drawn.partner, device), pasted)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, span: slice) -> Placed:
        return replace(self, **{name: held[span] for name, held in vars(self).items() if held is not None})

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """The views before the mix: f32 [m, 3, size, size]."""
        return crop_prepared(images.index_select(0, self.rows), self.own)

    def pasted(self, images: torch.Tensor) -> torch.Tensor | None:
        """The views of the images that are pasted: f32 [m, 3, size, size], None without a mix."""
        if self.partner_rows is None or self.partners is None:
            return None
        return crop_prepared(images.index_select(0, self.partner_rows), self.partners)

    def mix(self, inputs: torch.Tensor, pasted: torch.Tensor) -> torch.Tensor:
        """`inputs` with the box of each view replaced by the same pixels of `pasted`."""
        assert self.own.pasted is not None
        return paste_box(inputs, pasted, self.own.pasted)


def render(
    images: torch.Tensor, source: ViewSource, ids: IntArray, rows: IntArray, views: IntArray, size: int
) -> tuple[torch.Tensor, Views]:
    """View `views[j]` of row `rows[j]` of a set for every j, mixed as `source` says, and its parameters.

    `images` u8 [n, h, w, 3] is the whole set on the device and `ids` i64 [n] are its ids. The pixels returned are f32
    [m, 3, size, size].
    """
    view_set = views_of(source, ids)
    drawn = view_set.parameters(rows, views)
    partners = None if source.mix == "none" else view_set.partners(rows, views, drawn)
    placed = Placed.of(images, rows, drawn, partners, size)
    inputs, pasted = placed.inputs(images), placed.pasted(images)
    return inputs if pasted is None else placed.mix(inputs, pasted), drawn
