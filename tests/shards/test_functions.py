"""What counts as a shard, and what is opened once: kept, replaced, given up, and shared by threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from shard_cases import square

from dcpipe.shards import functions, in_groups, in_turn, is_shard, opened


class Thing:
    def method(self, item: int) -> int:
        return item

    @staticmethod
    def static(item: int) -> int:
        return item


def test_functions_of_modules_are_shards_and_what_is_bound_to_this_process_is_not() -> None:
    def closure(item: int) -> int:
        return item

    assert all(map(is_shard, (square, partial(square, 3), partial(partial(in_turn, square)), Thing.static)))
    assert not any(map(is_shard, (closure, partial(closure, 3), lambda item: item, Thing().method, [].append, Thing)))


def test_several_shards_in_turn_give_their_results_in_order() -> None:
    assert in_turn(square, [3, 1, 2]) == [9, 1, 4] and in_turn(square, range(0)) == []


@pytest.mark.parametrize(
    ("n", "groups", "largest"), [(0, 0, 0), (1, 1, 1), (1000, 1000, 1), (1001, 501, 2), (10_500, 955, 11)]
)
def test_very_many_shards_are_sent_in_groups(n: int, groups: int, largest: int) -> None:
    found = in_groups(range(n), "part[{:05d}]".format)
    assert len(found) == groups and max((len(group.items) for group in found), default=0) == largest
    assert [item for group in found for item in group.items] == list(range(n))
    for group in found:
        first, last = f"part[{group.items[0]:05d}]", f"part[{group.items[-1]:05d}]"
        assert group.name == (first if len(group.items) == 1 else f"{first} to {last}")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "_recent", [])


def counted(fails: int = 0) -> tuple[opened[..., Any], list[Any]]:
    """An opened function, and the arguments of its calls, of which the first ones fail."""
    calls: list[Any] = []

    @opened
    def function(*args: Any, **kwargs: Any) -> list[Any]:
        """Open it."""
        calls.append((*args, *sorted(kwargs.items())))
        if len(calls) <= fails:
            raise OSError("away")
        return [args]

    return function, calls


def test_the_last_result_is_kept_and_only_that() -> None:
    function, calls = counted()
    first = function(1, name="a", size=2)
    assert function(1, size=2, name="a") is first and len(calls) == 1
    assert function(2) is not first
    assert function(1, name="a", size=2) is not first and len(calls) == 3
    assert function.__doc__ == "Open it." and function.__name__ == "function"


def test_the_old_result_is_let_go_before_the_new_one_is_made() -> None:
    """Two networks need not fit into the memory of a GPU."""
    seen: list[object] = []

    @opened
    def function(item: int) -> int:
        seen.append(function.kept)
        return item

    function(1)
    function(2)
    assert seen == [None, None]


def test_a_failure_keeps_nothing_and_the_next_call_tries_again() -> None:
    function, calls = counted(fails=1)
    with pytest.raises(OSError, match="away"):
        function(1)
    assert function(1) == [(1,)] and len(calls) == 2


def test_what_is_put_is_found_and_what_is_forgotten_is_not() -> None:
    function, calls = counted()
    function.put(["here"], 1, name="a")
    assert function(1, name="a") == ["here"] and calls == []
    function.forget()
    assert function(1, name="a") == [(1,)] and len(calls) == 1


def test_arguments_that_cannot_be_compared_are_refused() -> None:
    function, _ = counted()
    with pytest.raises(TypeError, match="unhashable"):
        function([1])
    with pytest.raises(TypeError, match="unhashable"):
        function.put(None, [1])


@pytest.mark.parametrize("use", [lambda function: function(1), lambda function: function.put([0], 1)])
def test_only_so_many_functions_keep_something(use: Callable[[Any], Any]) -> None:
    """The one that was used longest ago gives up what it keeps."""
    some = [counted()[0] for _ in range(functions.MOST + 1)]
    for function in some[: functions.MOST]:
        function(1)
    use(some[0])  # so the second one is the oldest
    use(some[-1])
    assert [function.kept is None for function in some] == [False, True, *[False] * (functions.MOST - 1)]


def test_threads_that_ask_for_the_same_get_one_result() -> None:
    together, calls = threading.Barrier(4, timeout=10), list[int]()

    @opened
    def slow(item: int) -> object:
        calls.append(item)
        threading.Event().wait(0.05)
        return object()

    def ask(_: int) -> object:
        together.wait()
        return slow(7)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(ask, range(4)))
    assert calls == [7] and len(set(map(id, results))) == 1


def test_threads_that_open_in_each_others_way_do_not_wait_for_ever() -> None:
    """Each opens something while it is opening something else, and the limit makes each give up what another has."""
    outer = [opened(partial(_nested, counted()[0], number)) for number in range(2 * functions.MOST)]
    with ThreadPoolExecutor(len(outer)) as pool:
        asked = [pool.submit(function, item) for item in range(20) for function in outer]
        assert [future.result(timeout=20) for future in asked] == [item for item in range(20) for _ in outer]


def _nested(inner: opened[..., Any], number: int, item: int) -> int:
    inner(number, item)
    threading.Event().wait(0.001)
    return item
