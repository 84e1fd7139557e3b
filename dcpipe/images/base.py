"""What every image source provides, how its splits are checked, and how classes are split in two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar, runtime_checkable

import numpy as np

from dcpipe.images.places import Place
from dcpipe.random import Stream, permutation
from dcpipe.store.documents import MAX_NAME, shown
from dcpipe.types import Elsewhere, IntArray, check_labels, check_same_classes, require

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Source(Protocol):
    """One split: class names in order, labels i64 [n] in source order, and encoded images on demand."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> IntArray: ...
    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        """(file bytes, name in the source) of each of these ascending rows; may be called from several threads."""
        ...


class Where(NamedTuple):
    """Where the bytes of an image are: a file, as a name with slashes below the root of the source, and in it a row of
    a Parquet table, or the first byte in an archive, or neither where the file is the image."""

    file: str
    row: int | None = None
    start: int | None = None


@runtime_checkable
class Located(Source, Protocol):
    """A split whose images are in files as they are, so that they can be found again without their source."""

    @property
    def elsewhere(self) -> Elsewhere: ...
    def where(self, rows: IntArray) -> list[Where]:
        """Where each of these ascending rows is."""
        ...


def counts_classes(
    count: Callable[..., int | None],
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """A decorator that gives a source a function to count its classes without listing its images.

    `count` is called with the options of the source and returns None if it cannot tell. With it, a budget that depends
    on the number of classes is checked before any work.
    """

    return _attach("count_classes", count)


def reads_files(
    paths: Callable[..., Iterable[Place]],
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """A decorator that says which files and folders a source reads, given its options.

    Without it, changes of a source are not noticed by `dvc repro` (see `listing`).
    """
    return _attach("reads_files", paths)


def reads_everything(
    when: Callable[..., bool],
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """A decorator that says with which options a source reads all images in order to open. `dcpipe plan` does not."""
    return _attach("reads_everything", when)


def _attach(name: str, value: Any) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """A decorator that gives a source an attribute."""

    def mark(source: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        vars(source)[name] = value
        return source

    return mark


@dataclass(frozen=True, eq=False)
class Subset:
    """Some rows of another source, in ascending order. It divides a set that comes in one piece into train and test."""

    whole: Source
    rows: IntArray

    @property
    def classes(self) -> tuple[str, ...]:
        return self.whole.classes

    @property
    def labels(self) -> IntArray:
        labels: IntArray = self.whole.labels[self.rows]
        return labels

    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        return self.whole.read(self.rows[rows])


@dataclass(frozen=True, eq=False)
class LocatedSubset(Subset):
    """As `Subset`, of a source whose images are in files."""

    whole: Located

    @property
    def elsewhere(self) -> Elsewhere:
        return self.whole.elsewhere

    def where(self, rows: IntArray) -> list[Where]:
        return self.whole.where(self.rows[rows])


def checked(train: Source, test: Source, where: str) -> dict[str, Source]:
    """The two splits as a dict, after checking that they are consistent.

    Raises `DataError` for an empty split, class names that repeat, differ or cannot be stored, labels outside the class
    list, and classes without a train image. A class may lack test images, because accuracy is still defined.
    """
    for name in train.classes:
        require(
            len(name) <= MAX_NAME and is_text(name),
            f"{where}: class name {shown(name)} cannot be stored; give it at most {MAX_NAME} characters of valid text",
        )
    for split, source in (("train", train), ("test", test)):
        require(len(source.labels) > 0, f"{where}: {split} holds no images; check the path and the split's name")
        check_labels(source.labels, source.classes, f"{where} {split}")
    check_same_classes(train.classes, test.classes, f"{where}: train and test")
    counts = np.bincount(train.labels, minlength=len(train.classes))
    if not counts.all():
        empty = train.classes[int(np.argmin(counts))]
        require(False, f"{where}: class {empty!r} has no train images; add some or take it off the class list")
    return {"train": train, "test": test}


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; half a surrogate pair cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def split_minival(labels: IntArray, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """(train rows, minival rows) for labels i64 [n], both ascending. `seed` draws a share of every class for minival.

    A class of m images gives round(share * m) of them to minival, rounded half up, but at least one remains in train.
    """
    return _cut(labels, share, seed, Stream.MINIVAL)


def cut_test(whole: Source, share: float, seed: int) -> tuple[Subset, Subset]:
    """(train, test) of a source that comes in one piece; split as in `split_minival`, but with other random draws."""
    train, test = _cut(whole.labels, share, seed, Stream.TEST)
    if isinstance(whole, Located):
        return LocatedSubset(whole, train), LocatedSubset(whole, test)
    return Subset(whole, train), Subset(whole, test)


def divided(whole: Source, share: float, seed: int, where: str) -> dict[str, Source]:
    """The splits of a source that comes in one piece, as the options `test_share` and `seed` ask for; see `checked`.

    Raises `DataError` if the share is so small that test would have no image.
    """
    train, test = cut_test(whole, share, seed)
    require(
        len(test.labels) > 0,
        f"{where}: test_share {share:g} gives no image of any class to test; raise images.options.test_share",
    )
    return checked(train, test, where)


def train_and_test(splits: Sequence[Source], test_share: float | None, seed: int, where: str) -> dict[str, Source]:
    """The splits of a source from its train and test, or from train alone where `test_share` of it becomes test; see
    `checked` and `divided`."""
    if test_share is not None:
        return divided(splits[0], test_share, seed, where)
    train, test = splits
    return checked(train, test, where)


def _cut(labels: IntArray, share: float, seed: int, stream: Stream) -> tuple[IntArray, IntArray]:
    require(0 <= share <= 1, f"images: the share of a split must be in 0..1, got {share}; correct it")
    order = permutation(seed, stream, len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    n_cut = np.minimum(np.floor(share * counts + 0.5).astype(np.int64), counts - 1)
    rank = np.arange(len(labels)) - np.repeat(starts, counts)
    cut = rank < np.repeat(n_cut, counts)
    return np.sort(by_class[~cut]), np.sort(by_class[cut])


def check_ascending(rows: IntArray, n: int, where: str) -> None:
    """Raises `DataError` unless the rows are strictly ascending and within range(n)."""
    ascending = len(rows) == 0 or (rows[0] >= 0 and rows[-1] < n and bool((np.diff(rows) > 0).all()))
    require(ascending, f"{where}: rows must ascend strictly within 0..{n - 1}; sort them and remove repetitions")


def class_list(classes: Sequence[str]) -> tuple[str, ...]:
    """Class names from the options, as a tuple. Raises `DataError` for anything but a list of names."""
    valid = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    require(valid, f"classes must be a list of names, got {shown(classes)}; write them as a YAML list")
    return tuple(classes)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in the order that they get where nothing states one: as numbers if all are integers, else as text."""
    known = sorted(names)
    return tuple(sorted(known, key=int) if _are_integers(known) else known)


def order_note(classes: Sequence[str]) -> str:
    """A sentence about class names that are integers, if their numerical order is not that of text; else empty.

    ImageFolder of torchvision sorts folders as text: 0, 1, 10, 2. A teacher that was trained in the other order would
    take most classes for others.
    """
    orders = {tuple(sorted(classes)): "the order of text", in_order(classes): "numerical order"}
    if not _are_integers(classes) or len(orders) < 2 or tuple(classes) not in orders:
        return ""
    kind = orders.pop(tuple(classes))
    [other] = orders.values()
    return (
        f"classes are named by integers in {kind} ({', '.join(classes[:5])}, ...); if a teacher was trained in "
        f"{other}, list the classes in images.options.classes"
    )


def _are_integers(names: Sequence[str]) -> bool:
    return all(name.isascii() and name.isdigit() and len(name) < 19 for name in names)
