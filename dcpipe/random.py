"""Random numbers as a pure function of four numbers: a seed, a stream, a draw and a row.

The generator is Philox-4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with key (seed,
stream) and counter (draw, 0, row, 0). A 64-bit word w becomes a number in [0, 1) by (w >> 11) / 2**53. The words are
mapped here because NumPy's distributions may change between versions, while its raw words may not.

Every use of random numbers has an entry here: `Draw` allocates draws, `Stream` the streams of permutations, which all
use one draw, and `Row` the rows of draws that are used for two kinds of things. A new use takes a free number of
`Draw`. Entries never change, because published coresets, packs and views were made with these numbers.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
import numpy.typing as npt

from dcpipe.types import FloatArray, IntArray

_MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
_WEYL = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

Words = npt.NDArray[np.uint64]


class Allocation(int, Enum):
    """A range of `count` numbers that one use may take; the value is the first of them.

    `shared` explains why another use may take some of the same numbers; it is empty if no other use does.
    """

    count: int
    shared: str

    def __new__(cls, first: int, count: int = 1, shared: str = "") -> Allocation:
        one = int.__new__(cls, first)
        one._value_ = (first, count, shared)  # with the number alone, two uses that share it would be one enum member
        one.count, one.shared = count, shared
        return one

    @property
    def numbers(self) -> range:
        """All numbers of the range."""
        return range(int(self), int(self) + self.count)


class Draw(Allocation):
    """The first word of the counter, which says what is drawn. The comments give the stream and the row."""

    CROP = 0, 10  # attempts at the crop box of a view: by view, image (`views.draw`; the same for the next five)
    FLIP = 10  # flip and CutMix partner
    MIX = 11  # CutMix box, and whether the view is mixed
    RANDAUGMENT = 32, 16  # operation and sign of each step
    PATCHES = 256, 64  # order of shuffled patches, four patches per draw
    SIAMESE = 320, 3  # differentiable augmentation: by view, image; in gradient matching by step, `Row`

    PERMUTATION = 12  # by `Stream`, place
    RDED_CANDIDATES = 13  # permutation of a class: by class, place
    K_CENTER_START = 14  # as RDED_CANDIDATES
    GRADMATCH_FILL = 15  # as RDED_CANDIDATES
    POOL = 16  # views or batches of an epoch in the codecs `prune` and `prune_topk`: by epoch, place
    RSVD = 17  # test matrices: by quarter of the numbers, image
    CUR = 18  # columns and rows: by place, image

    RECOVERY_SHIFT = 101  # padded crop and jitter: by step, batch
    RECOVERY_DROP = 102  # which layers are left out: by step, `DROP_ROWS` rows per batch
    CUTMIX = 340  # gradient matching, whether and where a batch is mixed: by step, 0
    CENTROIDS = 500  # initial centroids of k-means: by step, image
    SUBSET_TEST = 1000  # seed of the network that evaluates a subset: by outer loop, size of the subset
    EXPERT = 1001  # seed of an expert: by number, 0
    SEGMENT = 1002  # expert, start epoch and seed of an iteration of trajectory matching: by iteration, 0
    PROTOTYPES = 1006  # seed of k-means of a class: by class, 0
    DENOISING = 1007  # seed of the noise of row 0 of a set; other rows count on from it: by 0, 0
    NOISE = 1024, 2**62  # initial pixels, as many draws as an image needs: by 0, image

    BADGE = (
        0,
        2**32,
        "Pick k of a class takes draw k of row 0, which is one number. Other uses of the same draws take thousands of "
        "words to order a class or to crop its images, of which only one is in row 0. Other numbers would change "
        "published picks.",
    )
    PURSUIT = (
        0,
        1,
        "Initial directions of a search for singular vectors, by (seed 0, row). They share words with the crops of "
        "image 0, but the vectors do not depend on them up to round-off. Other numbers would change packs.",
    )


class Stream(Allocation):
    """The second word of the key, for permutations, which are drawn by `Draw.PERMUTATION`. The comments name the block
    whose seed is used.

    Each block of params.yaml has a seed, which is 0 by default, so blocks share orders. `shared` explains why this is
    harmless. Entries with the same seed do not overlap.
    """

    TEACHER_EPOCH = (  # teacher
        0,
        2**32,
        "Order of the train images in epoch k, from the same words as the picks of `random` in class k. The teacher "
        "sees every image in every epoch, so the order does not decide which images it learns. Digests depend on it.",
    )
    TABLE_PARTS = (  # teacher, of a table larger than memory
        0,
        2**62,
        "As TEACHER_EPOCH, which it replaces: the parts and buffers of epoch k start at k * PARTS_OF_EPOCH.",
    )
    STUDENT_EPOCH = (  # the student
        0,
        2**32,
        "Order of the condensed images in an epoch. TEACHER_EPOCH orders other images.",
    )
    CLASS_PICKS = (  # selection
        0,
        2**32,
        "The picks of `random` in class k. Other selectors use separate draws, so none is compared with itself.",
    )
    POOL_VIEW = (  # the codec
        0,
        2**32,
        "Order of the condensed images in view k, of which pruning keeps the first batches. It may equal STUDENT_EPOCH "
        "because labels are equally good in any order.",
    )
    CUTMIX_PARTNERS = (  # synthesis; warm-up steps have negative numbers
        0,
        2**33,
        "Order of the rows of one batch in gradient matching, which makes pairs and chooses no images.",
    )
    REAL_IMAGES = (  # synthesis, by `real_images_seed`
        0,
        2**32,
        "Real images of a class, or of all classes, in an epoch of gradient matching. All methods get the same ones, "
        "so that they are compared on the same real images. No other stream uses this seed.",
    )
    MATCHER_EPOCH = (  # synthesis, by `matcher_seed`
        0,
        2**32,
        "Order of the condensed images in an epoch of the matching network. No other stream of the run uses this seed.",
    )
    SUBSET_TEST = (  # synthesis, by the seed of `Draw.SUBSET_TEST`
        0,
        2**32,
        "Real images that evaluate a subset, by class; the seed is 64 random bits.",
    )
    MATCHED = (  # synthesis
        2**33,
        2**33,
        "Which condensed images are matched in a step. The teacher's TABLE_PARTS has these numbers from epoch 2 on.",
    )
    MINIVAL = 2**48, 1, "Which train images become minival. The teacher's TABLE_PARTS has it in epoch 65,536."
    TEST = 2**48 + 1, 1, "As MINIVAL, for a source that has no test split."


class Row(Allocation):
    """The third word of the counter, for draws that are made both per image and per class."""

    IMAGE = 0, 2**33
    CLASS = 2**33, 2**32


PARTS_OF_EPOCH = 2**32  # streams per epoch of TABLE_PARTS; no table has so many parts
DROP_ROWS = 2**16  # rows per batch of RECOVERY_DROP, each for four layers
ALL_CLASSES = 2**32  # the label for `real_images_seed` if images are drawn from all classes together
STEPS = 2**31  # steps of gradient matching; warm-up steps -1, -2, ... get the images of the last ones


def real_images_seed(seed: int, label: int) -> int:
    """The seed for drawing the real images of a class; it differs from `seed`, which draws CutMix partners."""
    return seed ^ (label + 1 << 20)


def matcher_seed(seed: int) -> int:
    """The seed for the order in which a matching network learns from condensed images; it differs from `seed` too."""
    return seed ^ 1


def torch_seed(seed: int, turn: int) -> int:
    """The seed of torch in an epoch of training (dropout) or an outer loop of matching (initial weights)."""
    return (seed * 1_000_003 + turn) % 2**64


def _multiply(a: np.uint64, b: Words) -> tuple[Words, Words]:
    """The high and the low 64 bits of the 128-bit product, computed from 32-bit halves."""
    a_low, a_high = a & _LOW, a >> _HALF
    b_low, b_high = b & _LOW, b >> _HALF
    low = a_low * b_low
    middle = a_high * b_low + (low >> _HALF)
    cross = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _HALF) + (cross >> _HALF), a * b


def philox(seed: int, stream: npt.ArrayLike, draw: int, row: npt.ArrayLike) -> Words:
    """Four raw u64 words for each (stream, row) pair: u64 [..., 4].

    Equals `np.random.Philox` with the same key and counter (which advances its counter once before use).
    """
    streams = np.asarray(stream, dtype=np.int64).astype(np.uint64)
    rows = np.asarray(row, dtype=np.int64).astype(np.uint64)
    streams, rows = np.broadcast_arrays(streams, rows)
    with np.errstate(over="ignore"):
        x0, x1 = np.full(rows.shape, draw, dtype=np.uint64), np.zeros(rows.shape, dtype=np.uint64)
        x2, x3 = rows.copy(), np.zeros(rows.shape, dtype=np.uint64)
        k0 = np.full(rows.shape, seed % 2**64, dtype=np.uint64)
        k1 = streams.copy()
        for _ in range(10):
            high0, low0 = _multiply(_MULTIPLIERS[0], x0)
            high1, low1 = _multiply(_MULTIPLIERS[1], x2)
            x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
            k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return np.stack([x0, x1, x2, x3], axis=-1)


def words_from(seed: int, draw: int, row: int, count: int) -> Words:
    """The words u64 [count] of one row in `draw` and the draws after it, in stream 0; faster than `philox` for long
    rows."""
    # NumPy increments the counter before it draws.
    counter, key = (np.array(n, dtype=np.uint64) for n in ([draw - 1, 0, row, 0], [seed % 2**64, 0]))
    return np.asarray(np.random.Philox(counter=counter, key=key).random_raw(count), dtype=np.uint64)


def uniform(words: Words) -> FloatArray:
    """Numbers in [0, 1) from raw words: the top 53 bits over 2**53."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, stream: int, n: int, draw: int = Draw.PERMUTATION) -> IntArray:
    """A permutation i64 [n] of range(n): the order of n random words of this generator."""
    return np.argsort(philox(seed, stream, draw, np.arange(n))[..., 0], kind="stable").astype(np.int64)
