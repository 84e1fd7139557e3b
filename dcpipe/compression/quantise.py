"""Numbers with 8, 6, 4, 3 or 1.6 bits and one scale for many of them, and how they are packed into bytes.

Levels are symmetric and uniform: x becomes round(x / s) in -q..q, q = 2^(bits-1) - 1, so that zero remains zero; 1.6
bits have the three levels of q = 1. The scale is given by its `peak` q s, the largest number that can be represented.
With 8 bits the peak is the largest |x|. With fewer bits, steps are coarse, and a peak below the largest |x| clips a few
numbers but rounds all others more finely. Six peaks are tried, 100 to 50 % of the largest |x| (for 1.6 bits eight, down
to 30 %); each is replaced by the least-squares peak for its codes, and the one with the smallest squared error is used.

Codes are written as unsigned integers (code + q), least significant bit first, as one stream of bits per row of
numbers, whose last byte is padded with zeros: ceil(count bits / 8) bytes per row. Every code can be read separately,
because it spans at most two bytes. Five codes of three levels form a byte, as digits to base 3, least significant first
(3^5 = 243).
"""

from __future__ import annotations

from typing import Annotated

import torch

from dcpipe.config.values import one_of

WIDTHS = (8, 6, 4, 3, 1.6)
TERNARY = 1.6
Width = Annotated[float, one_of(WIDTHS)]
# For a mean label, which is the largest part, 1.6 bits are too few.
BaseWidth = Annotated[int, one_of([width for width in WIDTHS if width != TERNARY])]
LARGEST = 65504.0  # of fp16
_CLIPS = 6  # peaks that are tried for fewer than 8 bits: 1, 0.9, 0.8 ... of the largest
_MORE_CLIPS = 2  # for three levels
_DIGITS = 5  # digits to base 3 in a byte
_AT_ONCE = 2**18  # codes decoded at once: a MiB of numbers


def row_bytes(count: int, bits: float) -> int:
    """Bytes of one row of `count` codes."""
    return -(-count // _DIGITS) if bits == TERNARY else -(-count * int(bits) // 8)


def quantise(rows: torch.Tensor, bits: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [..., count], whole numbers in the rows' dtype, and peaks [..., 1] of rows of numbers [..., count]:
    x ~ code / q * peak."""
    most = _most(bits)
    largest = rows.abs().amax(-1, keepdim=True)
    step = torch.where(largest > 0, most / largest, 0)
    if bits == 8:
        return (rows * step).round_(), largest
    clips = torch.arange(10, 10 - _CLIPS - (_MORE_CLIPS if bits == TERNARY else 0), -1, device=rows.device) / 10
    tried = (rows[..., None, :] * (step / clips.to(rows.dtype))[..., None]).round_().clamp_(-most, most)
    along, power = (tried @ rows[..., None])[..., 0], tried.square().sum(-1)
    # With the least-squares peak, the squared error is that of all zeros minus along^2 / power.
    best = torch.where(power > 0, along.square() / power, 0).argmax(-1, keepdim=True)
    peak = torch.where(power > 0, most * along / power, 0).take_along_dim(best, -1)
    return tried.take_along_dim(best[..., None], -2)[..., 0, :], peak


def coded(rows: torch.Tensor, bits: float) -> tuple[torch.Tensor, torch.Tensor]:
    """As `quantise`, but with peaks as they are stored, in fp16."""
    codes, peak = quantise(rows, bits)
    return codes, as_scale(peak)


def as_scale(peak: torch.Tensor) -> torch.Tensor:
    """Peaks in fp16, clamped to its largest number."""
    return peak.clamp_max(LARGEST).to(torch.float16)


def rounded(codes: torch.Tensor, peak: torch.Tensor, bits: float) -> torch.Tensor:
    """The numbers that codes [..., count] with peaks [..., 1] represent."""
    return codes * (peak / _most(bits))


def pack(codes: torch.Tensor, bits: float) -> torch.Tensor:
    """Codes [..., count] as bytes u8 [..., row_bytes(count, bits)]."""
    offset = (codes + _most(bits)).to(torch.uint8)
    if bits == 8:
        return offset
    size = row_bytes(codes.shape[-1], bits)
    if bits == TERNARY:
        powers = 3 ** torch.arange(_DIGITS, device=codes.device, dtype=torch.uint8)
        return (_in_groups(offset, _DIGITS, size) * powers).sum(-1, dtype=torch.uint8)
    width = int(bits)
    single = (offset[..., None] >> torch.arange(width, device=codes.device, dtype=torch.uint8)) & 1
    weights = 2 ** torch.arange(8, device=codes.device, dtype=torch.uint8)
    return (_in_groups(single.flatten(-2), 8, size) * weights).sum(-1, dtype=torch.uint8)


def unpack(packed: torch.Tensor, bits: float, count: int) -> torch.Tensor:
    """All codes of packed rows u8 [..., bytes], f32 [..., count] in -1..1, to be multiplied by their peak."""
    most = _most(bits)
    return _in_order(_planes(packed, bits), count).sub_(most).div_(most)


def combine(weights: torch.Tensor, packed: torch.Tensor, bits: float, count: int) -> torch.Tensor:
    """`weights @ unpack(packed, bits, count)`, f32 [m, k, count], of weights [m, k, r] and rows u8 [m, r, bytes].

    It is several times faster, because only the sums are reordered and corrected for the offset of the codes. On a CPU,
    only as many codes as fit its cache are decoded at a time.
    """
    most = _most(bits)
    each = max(1, _AT_ONCE // max(1, packed.shape[1] * count)) if packed.device.type == "cpu" else len(packed)
    sums = []
    for some, rows in zip(torch.split(weights, max(1, each)), torch.split(packed, max(1, each)), strict=True):
        planes = _planes(rows, bits)
        total = (some @ planes.flatten(-2)).sub_(most * some.sum(-1, keepdim=True)).div_(most)
        sums.append(_in_order(total.reshape(*total.shape[:-1], *planes.shape[-2:]), count))
    return torch.cat(sums)


def _planes(packed: torch.Tensor, bits: float) -> torch.Tensor:
    """Unsigned codes of packed rows u8 [..., bytes]: f32 [..., e, groups], code j is at [j mod e, j div e].

    A group is the smallest number of whole bytes with a whole number e of codes (1 byte for 8, 4 or 1.6 bits, 3 bytes
    for 6 or 3 bits).
    """
    if bits == 8:
        return packed[..., None, :].to(torch.float32)
    if bits == TERNARY:
        word, each = packed.to(torch.float32), _DIGITS
    elif 8 % int(bits) == 0:
        word, each = packed, 8 // int(bits)
    else:
        first, second, third = _in_groups(packed, 3, -(-packed.shape[-1] // 3)).to(torch.int32).unbind(-1)
        word, each = first + (second << 8) + (third << 16), 24 // int(bits)
    codes = torch.empty((*word.shape[:-1], each, word.shape[-1]), device=packed.device)
    for place in range(each):  # each plane is contiguous, which makes this fast
        if bits == TERNARY:
            rest = (word / 3).floor_()
            codes[..., place, :] = word.sub_(rest, alpha=3)
            word = rest
        else:
            codes[..., place, :] = (word >> int(bits) * place).bitwise_and_((1 << int(bits)) - 1)
    return codes


def _in_order(planes: torch.Tensor, count: int) -> torch.Tensor:
    """Numbers [..., e, groups] in the order of their codes, [..., count]."""
    return planes.mT.flatten(-2)[..., :count]


def unpack_at(packed: torch.Tensor, bits: float, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """As `unpack`, but only code `places` of row `rows` (i64, broadcast against each other) of u8 [N, bytes]: f32."""
    most = _most(bits)
    if bits == TERNARY:
        byte = packed[rows, places // _DIGITS].to(torch.int64)
        return ((byte // 3 ** (places % _DIGITS)) % 3 - most).to(torch.float32)
    start = places * int(bits)
    first, shift = start // 8, (start % 8).to(torch.int32)
    second = (first + 1).clamp_max(packed.shape[-1] - 1)  # past the end only where the code fits the first byte
    word = packed[rows, first].to(torch.int32) + packed[rows, second].to(torch.int32) * 256
    return (((word >> shift) & (2 * most + 1)) - most).to(torch.float32) / most


def _most(bits: float) -> int:
    """The largest code."""
    return 1 if bits == TERNARY else (1 << (int(bits) - 1)) - 1


def _in_groups(codes: torch.Tensor, each: int, groups: int) -> torch.Tensor:
    """[..., count], padded with zeros: [..., groups, each]."""
    padded = torch.nn.functional.pad(codes, (0, groups * each - codes.shape[-1]))
    return padded.reshape(*codes.shape[:-1], groups, each)
