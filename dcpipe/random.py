"""Random numbers as a pure function of their name: a seed, a stream, a draw and a row.

Philox-4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), with key (seed, stream) and
counter (draw, 0, row, 0). A 64-bit word w becomes a number in [0, 1) by (w >> 11) / 2**53. We map raw words ourselves
because NumPy's distributions may change between versions; the words may not.

Everything that is drawn anywhere has an entry here: `Draw` gives out draws, `Stream` the streams of permutations, which
share one draw, and `Row` the rows where two kinds of them meet. Something new takes a free number of `Draw`. No entry
ever moves: coresets, packs and views that people hold were made with these numbers.
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
    """Numbers that one user has: it is the first of them, `count` of them follow one another. `shared` says why another
    user may have some of the same ones; it is empty where nobody has."""

    count: int
    shared: str

    def __new__(cls, first: int, count: int = 1, shared: str = "") -> Allocation:
        one = int.__new__(cls, first)
        one._value_ = (first, count, shared)  # not the number alone: two users that share one stay two entries
        one.count, one.shared = count, shared
        return one

    @property
    def numbers(self) -> range:
        """All of them."""
        return range(int(self), int(self) + self.count)


class Draw(Allocation):
    """First word of the counter: what is drawn. The comment says by what stream and row."""

    CROP = 0, 10  # attempts at the box of a view's crop: by view, image (`views.draw`, and so the next five)
    FLIP = 10  # flip and CutMix partner
    MIX = 11  # CutMix box, and whether the view is mixed
    RANDAUGMENT = 32, 16  # operation and sign of each step
    PATCHES = 256, 64  # order of shuffled patches, four of them a draw
    SIAMESE = 320, 3  # differentiable augmentation: by view, image; in gradient matching by step, `Row`

    PERMUTATION = 12  # by `Stream`, place
    RDED_CANDIDATES = 13  # permutation of a class: by class, place
    K_CENTER_START = 14  # likewise
    GRADMATCH_FILL = 15  # likewise
    POOL = 16  # views or batches that an epoch shows, codecs `prune`, `prune_topk`: by epoch, place
    RSVD = 17  # test matrices: by quarter of the numbers, image
    CUR = 18  # columns and rows: by place, image

    RECOVERY_SHIFT = 101  # padded crop and jitter: by step, batch
    RECOVERY_DROP = 102  # which layers are left out: by step, `DROP_ROWS` of a batch
    CUTMIX = 340  # gradient matching, whether and where a batch is mixed: by step, 0
    CENTROIDS = 500  # first centroids of k-means: by step, image
    SUBSET_TEST = 1000  # seed of the network that a subset is judged by: by outer loop, size of the subset
    NOISE = 1024, 2**62  # initial pixels, as many draws as an image takes: by 0, image

    BADGE = (
        0,
        2**32,
        "Pick k of a class has draw k of row 0. Each is one number; what else has the same name is one word of row 0 "
        "among the thousands that order a class or cut its images. To move them would change picks that are published.",
    )
    PURSUIT = (
        0,
        1,
        "Directions that a search for singular vectors starts from, by (seed 0, row). Whatever they are, the vectors "
        "are the same up to round-off; they share words with crops of image 0. To move them would change packs.",
    )


class Stream(Allocation):
    """Second word of the key, of what draws its permutations by `Draw.PERMUTATION`. The comment says whose seed.

    Blocks of params.yaml have a seed each, 0 by default, so that different blocks share orders. `shared` says why that
    does no harm; entries of one seed do not overlap.
    """

    TEACHER_EPOCH = (  # teacher
        0,
        2**32,
        "Order of the train images, in epoch k, by the words that `random` picks class k with: of an order that the "
        "teacher sees once in its training, which says nothing about which images it learns. Digests hang on it.",
    )
    TABLE_PARTS = (  # teacher, of a table larger than memory
        0,
        2**62,
        "As for TEACHER_EPOCH, which it stands for: parts and buffers of epoch k begin at k * PARTS_OF_EPOCH.",
    )
    STUDENT_EPOCH = (  # the student
        0,
        2**32,
        "Order of the condensed images in an epoch; of other images than those that TEACHER_EPOCH orders.",
    )
    CLASS_PICKS = (  # selection
        0,
        2**32,
        "What `random` picks of class k. Other selectors have draws of their own, so none is compared with itself.",
    )
    POOL_VIEW = (  # the codec
        0,
        2**32,
        "Order of the images of view k, of which pruning keeps the first batches: of condensed images, as "
        "STUDENT_EPOCH, and of labels that are in any order alike.",
    )
    CUTMIX_PARTNERS = (  # synthesis; steps of warming up are numbered below zero
        0,
        2**33,
        "Order of the rows of one batch in gradient matching: of pairs, not of images.",
    )
    REAL_IMAGES = (  # synthesis, by `real_images_seed`
        0,
        2**32,
        "Real images of a class, or of all, in an epoch of gradient matching. All its methods are dealt the same, so "
        "that they are compared on the same real images; the seed is no other's.",
    )
    MATCHER_EPOCH = (  # synthesis, by `matcher_seed`
        0,
        2**32,
        "Order of the condensed images in an epoch of the network that matches; the seed is no other's of its run.",
    )
    SUBSET_TEST = (  # synthesis, by the seed of `Draw.SUBSET_TEST`
        0,
        2**32,
        "Real images that judge a subset, by class; the seed is 64 random bits.",
    )
    MATCHED = (  # synthesis
        2**33,
        2**33,
        "Which condensed images are matched in a step. TABLE_PARTS has the same numbers from epoch 2 on, of a teacher.",
    )
    MINIVAL = 2**48, 1, "Which train images become minival. TABLE_PARTS has the number in epoch 65,536, of a teacher."
    TEST = 2**48 + 1, 1, "As MINIVAL, of a source that comes in one piece."


class Row(Allocation):
    """Third word of the counter, where images and classes draw alike."""

    IMAGE = 0, 2**33
    CLASS = 2**33, 2**32


PARTS_OF_EPOCH = 2**32  # streams that an epoch of TABLE_PARTS has; no table has so many parts
DROP_ROWS = 2**16  # rows that a batch of RECOVERY_DROP has, of four layers each
ALL_CLASSES = 2**32  # for `real_images_seed`, where images are dealt from all classes together
STEPS = 2**31  # steps of gradient matching; those of warming up, -1, -2, ..., are dealt the images of the last ones


def real_images_seed(seed: int, label: int) -> int:
    """The seed by which real images of a class are dealt, apart from that of CutMix's partners, which is `seed`."""
    return seed ^ (label + 1 << 20)


def matcher_seed(seed: int) -> int:
    """The seed of the order in which a matching network learns from condensed images, likewise apart."""
    return seed ^ 1


def torch_seed(seed: int, turn: int) -> int:
    """For torch's own generator, in an epoch of training (dropout) or an outer loop of matching (initial weights)."""
    return (seed * 1_000_003 + turn) % 2**64


def _multiply(a: np.uint64, b: Words) -> tuple[Words, Words]:
    """High and low 64 bits of the 128-bit product, by 32-bit halves."""
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
    """The words u64 [count] of one row in `draw` and the draws after it, of stream 0: `philox`, fast for long rows."""
    # NumPy counts before it draws.
    counter, key = (np.array(n, dtype=np.uint64) for n in ([draw - 1, 0, row, 0], [seed % 2**64, 0]))
    return np.asarray(np.random.Philox(counter=counter, key=key).random_raw(count), dtype=np.uint64)


def uniform(words: Words) -> FloatArray:
    """Numbers in [0, 1) from raw words: the top 53 bits over 2**53."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, stream: int, n: int, draw: int = Draw.PERMUTATION) -> IntArray:
    """A permutation i64 [n] of range(n) from the same generator: the order of n random words."""
    return np.argsort(philox(seed, stream, draw, np.arange(n))[..., 0], kind="stable").astype(np.int64)
