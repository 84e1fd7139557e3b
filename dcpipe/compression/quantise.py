"""Numbers of 8, 6, 4 or 3 bits with one scale for many, and how they are packed into bytes.

Symmetric, uniform levels: x becomes round(x / s) in -q..q, q = 2^(bits-1) - 1, so that zero stays zero. The scale is
told by its `peak` q s, the largest number it can say. With 8 bits the peak is the largest |x|. With fewer, steps are
coarse and a peak below the largest |x| clips few numbers and rounds all others finer: of six peaks, 100 to 50 % of
the largest, the one with the least squared error is kept.

Codes are written as unsigned integers (code + q), least significant bit first, one stream of bits for each row of
numbers, whose last byte is filled up with zeros: ceil(count bits / 8) bytes a row. Any code is read by itself: it
spans at most two bytes.
"""

from __future__ import annotations

import torch

from dcpipe.types import require

WIDTHS = (8, 6, 4, 3)
LARGEST = 65504.0  # of fp16
_CLIPS = (0.9, 0.8, 0.7, 0.6, 0.5)  # peaks tried below the largest, for fewer than 8 bits


def check_bits(codec: str, option: str, bits: int) -> None:
    """Raise `DataError` unless `bits` is a width that codes are packed in."""
    legal = ", ".join(str(width) for width in WIDTHS)
    require(bits in WIDTHS, f"codec {codec!r}: {option} is {bits!r}; choose one of {legal}")


def row_bytes(count: int, bits: int) -> int:
    """Bytes of one row of `count` codes."""
    return -(-count * bits // 8)


def quantise(rows: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes i32 [..., count] and peaks [..., 1] of rows of numbers [..., count]: x ~ code / q * peak."""
    most = _most(bits)
    largest = rows.abs().amax(-1, keepdim=True)
    peak = largest
    codes = _round(rows, peak, most)
    if bits == 8:
        return codes, peak
    error = _error(rows, codes, peak, most)
    for clip in _CLIPS:
        tried = _round(rows, clip * largest, most)
        other = _error(rows, tried, clip * largest, most)
        better = other < error
        codes, error = torch.where(better, tried, codes), torch.where(better, other, error)
        peak = torch.where(better, clip * largest, peak)
    return codes, peak


def coded(rows: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `quantise`, with peaks as they are stored."""
    codes, peak = quantise(rows, bits)
    return codes, as_scale(peak)


def as_scale(peak: torch.Tensor) -> torch.Tensor:
    """Peaks in fp16; beyond its range, its largest number."""
    return peak.clamp_max(LARGEST).to(torch.float16)


def rounded(codes: torch.Tensor, peak: torch.Tensor, bits: int) -> torch.Tensor:
    """The numbers that codes [..., count] with peaks [..., 1] say."""
    return codes * (peak / _most(bits))


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes [..., count] as bytes u8 [..., row_bytes(count, bits)]."""
    offset = (codes + _most(bits)).to(torch.uint8)
    if bits == 8:
        return offset
    count = codes.shape[-1]
    single = (offset[..., None] >> torch.arange(bits, device=codes.device, dtype=torch.uint8)) & 1
    stream = single.reshape(*codes.shape[:-1], count * bits)
    stream = torch.nn.functional.pad(stream, (0, 8 * row_bytes(count, bits) - count * bits))
    weights = 2 ** torch.arange(8, device=codes.device, dtype=torch.uint8)
    return (stream.reshape(*codes.shape[:-1], -1, 8) * weights).sum(-1, dtype=torch.uint8)


def unpack(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """All codes of packed rows u8 [..., bytes], f32 [..., count] in -1..1, to be multiplied with their peak.

    The fewest whole bytes that hold whole codes (1 of 8 or 4 bits, 3 of 6 or 3 bits) are read as one integer.
    """
    group = 1 if 8 % bits == 0 else 3
    padded = torch.nn.functional.pad(packed, (0, -packed.shape[-1] % group))
    places = 8 * torch.arange(group, device=packed.device, dtype=torch.int32)
    word = (padded.reshape(*packed.shape[:-1], -1, group).to(torch.int32) << places).sum(-1, dtype=torch.int32)
    shifts = bits * torch.arange(8 * group // bits, device=packed.device, dtype=torch.int32)
    codes = (word[..., None] >> shifts).bitwise_and_((1 << bits) - 1).flatten(-2)[..., :count]
    return codes.to(torch.float32).sub_(_most(bits)).div_(_most(bits))


def unpack_at(packed: torch.Tensor, bits: int, places: torch.Tensor) -> torch.Tensor:
    """As `unpack`, but of each row only the code at its place: rows u8 [..., bytes], places i64 [...], f32 [...]."""
    start = places * bits
    first, shift = start // 8, (start % 8).to(torch.int32)
    second = (first + 1).clamp_max(packed.shape[-1] - 1)  # past the end only where the code fits the first byte
    word = packed.take_along_dim(first[..., None], -1)[..., 0].to(torch.int32)
    word = word + packed.take_along_dim(second[..., None], -1)[..., 0].to(torch.int32) * 256
    most = _most(bits)
    return (((word >> shift) & (2 * most + 1)) - most).to(torch.float32) / most


def _most(bits: int) -> int:
    """The largest code."""
    return (1 << (bits - 1)) - 1


def _round(rows: torch.Tensor, peak: torch.Tensor, most: int) -> torch.Tensor:
    """Nearest codes; all zero where the peak is."""
    step = torch.where(peak > 0, most / peak, 0)
    return (rows * step).round().clamp(-most, most).to(torch.int32)


def _error(rows: torch.Tensor, codes: torch.Tensor, peak: torch.Tensor, most: int) -> torch.Tensor:
    return (codes * (peak / most) - rows).square().sum(-1, keepdim=True)
