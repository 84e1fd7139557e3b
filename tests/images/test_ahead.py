"""Reading ahead: results in order, one in use and one on its way, and errors where they are due."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest

from dcpipe.images.ahead import ahead


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_results_come_in_order(n: int) -> None:
    assert list(ahead(lambda item: item * 10, range(n))) == [10 * item for item in range(n)]


def test_the_next_result_is_made_while_one_is_in_use() -> None:
    """Each call waits for the user of the result before it, so in one thread this would wait for ever."""
    in_use = [threading.Event() for _ in range(4)]

    def work(item: int) -> int:
        assert item == 0 or in_use[item - 1].wait(timeout=60)
        return item

    for item in ahead(work, range(4)):
        in_use[item].set()


def test_at_most_two_results_are_in_memory() -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    counts = []

    def work(item: int) -> np.ndarray:
        counts.append(sum(ref() is not None for ref in alive))
        array = np.zeros(10)
        alive.append(weakref.ref(array))
        return array

    for result in ahead(work, range(6)):
        assert len(result) == 10
        del result
    assert max(counts) <= 1  # besides the one that is being made


def test_an_error_comes_where_its_result_is_due() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise OSError("gone")
        return item

    results = ahead(work, range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    results = ahead(lambda item: item, range(100))
    next(results)
    results.close()
    assert threading.active_count() == before
