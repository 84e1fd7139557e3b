"""Items of an epoch in the order of their use, with everything that their batches need on the device.

`CondensedDataset.items` makes them: it looks up the parameters of all views and what their labels depend on, and copies
them to the device, once for an epoch. A batch is a slice of them. It copies nothing to the device and never waits for
it, so a GPU always has work in its queue while the host prepares the next batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from dcpipe.dataset.targets import Labels
from dcpipe.views import Placed

Located = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Items:
    """m items of an epoch.

    `pixels` u8 [n, h, w, 3], or f32 if they are whitened, and `classes` i64 [n] are those of the whole set.
    `located` and `partners_located` say where the targets of the views and of their partners are (`Labels.locate`);
    the latter is None unless labels are mixed by lambda. With `temperature` None, targets are logits.
    """

    pixels: torch.Tensor
    classes: torch.Tensor
    labels: Labels
    temperature: float | None
    placed: Placed
    located: Located
    partners_located: Located | None

    def __len__(self) -> int:
        return len(self.placed)

    def batch(self, span: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Views f32 [m, 3, s, s] in [0, 1], or whitened, and targets f32 [m, c] of consecutive items."""
        placed = self.placed[span]
        inputs, pasted = placed.inputs(self.pixels), placed.pasted(self.pixels)
        if pasted is None:
            return inputs, self._targets(self.located, span, inputs)
        mixed = placed.mix(inputs, pasted)
        if self.partners_located is None:  # the teacher labelled the mixed views
            return mixed, self._targets(self.located, span, mixed)
        share = placed.own.unmixed_share
        assert share is not None
        targets = self._targets(self.located, span, inputs)
        return mixed, share * targets + (1 - share) * self._targets(self.partners_located, span, pasted)

    def hard(self, span: slice) -> torch.Tensor:
        """Class numbers i64 [m] of the images of the items, even if another image is pasted into their views."""
        return self.classes.index_select(0, self.placed.rows[span])

    def _targets(self, located: Located, span: slice, inputs: torch.Tensor) -> torch.Tensor:
        return self.labels.targets({name: held[span] for name, held in located.items()}, inputs, self.temperature)
