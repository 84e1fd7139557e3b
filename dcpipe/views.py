"""View k of image i: a pure function of (seed, k, i), drawn in NumPy and applied to whole batches on the device.

Because a view is a function of its name, a stored label costs no bytes of crop coordinates, does not depend
on batch size or order, and teacher and student see the same pixels. Views that another program took have no such
law: their numbers are kept (`KeptViews`). `views_of` gives either as a `ViewSet`; users need not know which it is.

Draws come from Philox-4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), key
(seed, view), counter (draw, 0, image id, 0). A 64-bit word w becomes a number in [0, 1) by (w >> 11) / 2**53.
We map raw words ourselves because NumPy's distributions may change between versions; the words may not.

* Crop (torchvision's RandomResizedCrop law on a unit square): up to ten attempts of area ~ U(scale_min,
  scale_max) and log aspect ~ U(log ratio_min, log ratio_max); the first whose box fits is placed uniformly;
  else the largest centred box. Boxes are continuous, not rounded to pixels.
* CutMix (Yun et al., ICCV 2019): lambda ~ Beta(1, 1), a box of side sqrt(1 - lambda) around a uniform centre,
  clipped and rounded to pixels when applied; lambda is then the true share of kept pixels.
  Of policies with a `mix_share` below 1, a view is mixed where the word that the box leaves over is below it.
* RandAugment and shuffled patches of the whole image, before the crop: see `augment`. Siamese augmentation of the view
  itself, before the mix: see `siamese`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dcpipe import augment, siamese
from dcpipe.types import FloatArray, IntArray, KeptViews, ViewLaw, ViewPolicy

_MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
_WEYL = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ATTEMPTS = 10
_MIX_DRAW = _ATTEMPTS  # draws 0..9 are crop attempts; 10 and 11 are flip, partner and mix box; 12 is `permutation`'s

Words = npt.NDArray[np.uint64]


def _multiply(a: np.uint64, b: Words) -> tuple[Words, Words]:
    """High and low 64 bits of the 128-bit product, by 32-bit halves."""
    a_low, a_high = a & _LOW, a >> _HALF
    b_low, b_high = b & _LOW, b >> _HALF
    low = a_low * b_low
    middle = a_high * b_low + (low >> _HALF)
    cross = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _HALF) + (cross >> _HALF), a * b


def philox(seed: int, view: npt.ArrayLike, draw: int, image: npt.ArrayLike) -> Words:
    """Four raw u64 words for each (view, image) pair: u64 [..., 4].

    Equals `np.random.Philox` with the same key and counter (which advances its counter once before use).
    """
    keys = np.asarray(view, dtype=np.int64).astype(np.uint64)
    images = np.asarray(image, dtype=np.int64).astype(np.uint64)
    keys, images = np.broadcast_arrays(keys, images)
    with np.errstate(over="ignore"):
        x0, x1 = np.full(keys.shape, draw, dtype=np.uint64), np.zeros(keys.shape, dtype=np.uint64)
        x2, x3 = images.copy(), np.zeros(keys.shape, dtype=np.uint64)
        k0 = np.full(keys.shape, seed % 2**64, dtype=np.uint64)
        k1 = keys.copy()
        for _ in range(10):
            high0, low0 = _multiply(_MULTIPLIERS[0], x0)
            high1, low1 = _multiply(_MULTIPLIERS[1], x2)
            x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
            k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return np.stack([x0, x1, x2, x3], axis=-1)


def uniform(words: Words) -> FloatArray:
    """Numbers in [0, 1) from raw words: the top 53 bits over 2**53."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, stream: int, n: int) -> IntArray:
    """A permutation of range(n) from the same generator: the order of n random words."""
    words = philox(seed, stream, _MIX_DRAW + 2, np.arange(n))[..., 0]
    return np.argsort(words, kind="stable").astype(np.int64)


@dataclass(frozen=True, eq=False)
class Views:
    """Parameters of m views.

    `box` f64 [m, 4]: left, top, width, height of the crop as fractions of the image; `flip` bool [m];
    `partner` i64 [m]: row of the image pasted by CutMix; `mix_box` f64 [m, 4]: left, top, right, bottom
    of the pasted box as fractions of the view (an empty box where there is no mix). `inside`: samples stay between
    the box's outermost pixel centres, as those of a piece that was cut out first and enlarged then; drawn views may
    look half a pixel beyond. What happens before the crop, each None where nothing does: steps of RandAugment `ops`
    and `signs` i64 [m, steps]; `patches` i64 [m, f * f], the old place of each patch. What happens after it: `after`.
    """

    box: FloatArray
    flip: npt.NDArray[np.bool_]
    partner: IntArray
    mix_box: FloatArray
    inside: bool = False
    ops: IntArray | None = None
    signs: IntArray | None = None
    patches: IntArray | None = None
    after: siamese.Drawn | None = None

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, index: slice | npt.NDArray[np.bool_] | IntArray) -> Views:
        arrays = (np.ndarray, siamese.Drawn)
        taken: dict[str, Any] = {k: array[index] for k, array in vars(self).items() if isinstance(array, arrays)}
        return replace(self, **taken)

    def pixels(self, size: int) -> IntArray:
        """The pasted box in pixels of a `size`-pixel view: i64 [m, 4]."""
        return np.floor(self.mix_box * size + 0.5).astype(np.int64)

    def kept(self, size: int) -> FloatArray:
        """Lambda: the share of pixels that stay the image's own, f64 [m]."""
        x0, y0, x1, y1 = self.pixels(size).T
        kept: FloatArray = 1.0 - (x1 - x0) * (y1 - y0) / float(size * size)
        return kept


def draw(policy: ViewPolicy, ids: IntArray, views: IntArray, n_images: int) -> Views:
    """Parameters of view `views[j]` of image `ids[j]` for every j; both i64 [m].

    `n_images` is the size of the set that CutMix partners come from (rows 0..n_images-1).
    """
    box = _draw_boxes(policy, ids, views)
    before = augment.draw(policy, lambda number: philox(policy.seed, views, number, ids))
    after = (
        siamese.draw(policy.siamese, lambda d: uniform(philox(policy.seed, views, d, ids))) if policy.siamese else None
    )
    first = uniform(philox(policy.seed, views, _MIX_DRAW, ids))
    flip = first[:, 0] < policy.flip
    if policy.mix == "none":
        nothing = np.zeros((len(ids), 4))
        return Views(box, flip, np.zeros(len(ids), dtype=np.int64), nothing, False, *before, after)
    second = uniform(philox(policy.seed, views, _MIX_DRAW + 1, ids))
    partner = np.minimum((first[:, 1] * n_images).astype(np.int64), n_images - 1)
    half = np.sqrt(1.0 - second[:, 0]) / 2  # lambda = second[:, 0]
    x, y, mixed = second[:, 1], second[:, 2], second[:, 3:] < policy.mix_share
    mix_box = np.stack([x - half, y - half, x + half, y + half], axis=1).clip(0.0, 1.0)
    return Views(box, flip, partner, mix_box * mixed, False, *before, after)


def _draw_boxes(policy: ViewPolicy, ids: IntArray, views: IntArray) -> FloatArray:
    ratio = np.log([policy.ratio_min, policy.ratio_max])
    # Where ten attempts fail, the largest centred box whose aspect is legal: the whole image for square ones.
    aspect = float(np.clip(1.0, policy.ratio_min, policy.ratio_max))
    w, h = min(1.0, aspect), min(1.0, 1.0 / aspect)
    box = np.tile([(1 - w) / 2, (1 - h) / 2, w, h], (len(ids), 1))
    waiting = np.arange(len(ids))
    for attempt in range(_ATTEMPTS):
        if not len(waiting):
            break
        u = uniform(philox(policy.seed, views[waiting], attempt, ids[waiting]))
        area = policy.scale_min + u[:, 0] * (policy.scale_max - policy.scale_min)
        side = np.exp((ratio[0] + u[:, 1] * (ratio[1] - ratio[0])) / 2)
        width, height = np.sqrt(area) * side, np.sqrt(area) / side
        fits = (width <= 1.0) & (height <= 1.0)
        left, top = u[:, 2] * (1 - width), u[:, 3] * (1 - height)
        box[waiting[fits]] = np.stack([left, top, width, height], axis=1)[fits]
        waiting = waiting[~fits]
    return box


def crop(images: torch.Tensor, views: Views, size: int) -> torch.Tensor:
    """Cut and flip: images u8 or f32 [m, h, w, 3] -> f32 [m, 3, size, size], in [0, 1] but for siamese augmentation.

    Bilinear sampling at pixel centres (`align_corners=False`, border padding), no antialiasing: crops of
    condensed images are enlarged, not shrunk. One call for the whole batch.
    """
    if views.ops is not None or views.patches is not None:
        images = augment.apply(images, views.ops, views.signs, views.patches)
    device = images.device
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    if images.dtype == torch.uint8:
        pixels = pixels.div_(255.0)  # a copy of ours
    left, top, width, height = views.box.T
    # Maps of the view's [-1, 1] to the box in the image's [-1, 1], across and down: what `affine_grid` makes of a box
    # is the outer combination of the two, at a third of its cost.
    slopes = np.stack([np.where(views.flip, -width, width), height])
    starts = np.stack([2 * left + width - 1, 2 * top + height - 1])
    maps = torch.from_numpy(np.stack([slopes, starts]).astype(np.float32)).to(device, non_blocking=True)
    centres = (2 * torch.arange(size, device=device, dtype=torch.float32) + 1) / size - 1
    across, down = torch.addcmul(maps[1][:, :, None], maps[0][:, :, None], centres)
    grid = torch.empty(len(views), size, size, 2, device=device)
    grid[..., 0], grid[..., 1] = across[:, None, :], down[:, :, None]
    if views.inside:
        half = 0.5 / np.array([pixels.shape[3], pixels.shape[2]])
        first = 2 * (views.box[:, :2] + half) - 1
        last = 2 * (views.box[:, :2] + views.box[:, 2:] - half) - 1
        low, high = (torch.from_numpy(edge.astype(np.float32)).to(device)[:, None, None] for edge in (first, last))
        grid = torch.minimum(torch.maximum(grid, low), high)
    seen = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return seen if views.after is None else siamese.on_pixels(seen, views.after)


def paste(inputs: torch.Tensor, partners: torch.Tensor, views: Views) -> torch.Tensor:
    """CutMix: inputs [m, 3, s, s] with each view's box taken from `partners`, another batch of views."""
    size = inputs.shape[-1]
    bounds = torch.from_numpy(views.pixels(size)).to(inputs.device)
    line = torch.arange(size, device=inputs.device)
    across = (line >= bounds[:, 0:1]) & (line < bounds[:, 2:3])
    down = (line >= bounds[:, 1:2]) & (line < bounds[:, 3:4])
    inside = (down[:, :, None] & across[:, None, :])[:, None]
    return torch.where(inside, partners, inputs)


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


def take(tensor: torch.Tensor, rows: IntArray) -> torch.Tensor:
    """Rows of a tensor, gathered on its own device."""
    return tensor.index_select(0, torch.from_numpy(rows).to(tensor.device))


def normalise(inputs: torch.Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> torch.Tensor:
    """(inputs - mean) / std by channel, for inputs [m, 3, h, w] in [0, 1]."""
    centre = torch.tensor(mean, device=inputs.device, dtype=inputs.dtype).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=inputs.device, dtype=inputs.dtype).view(1, 3, 1, 1)
    return (inputs - centre) / scale
