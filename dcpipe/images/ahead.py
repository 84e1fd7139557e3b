"""Read ahead: while one piece of data is in use, the next one is prepared in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`work(item)` for every item in order, where the next call runs in a thread while the caller uses a result.

    At most two results are in memory: that in use, and the next one. An error of a call is raised where its result is
    due. If the caller stops early, the call that is running is waited for.
    """
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = [reader.submit(work, item) for item in items[:1]]
        for item in items[1:]:
            ready = coming.pop().result()
            coming.append(reader.submit(work, item))
            yield ready
            del ready  # or a third result would be in memory when the next one is taken
        for last in coming:
            yield last.result()
