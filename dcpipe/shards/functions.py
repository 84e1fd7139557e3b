"""What makes a function a shard, and what it opens once per process."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Given = ParamSpec("Given")
MOST_TASKS = 1000  # of one stage


def is_shard(work: Callable[..., Any]) -> bool:
    """Whether another process can find this function by its name: a function of a module, with or without some of its
    arguments (`functools.partial`). A closure, a lambda and a method are bound to this process."""
    while isinstance(work, partial):
        work = work.func
    return inspect.isfunction(work) and "<" not in work.__qualname__


def in_turn(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Several shards as one, for stages that have very many."""
    return [work(item) for item in items]


@dataclass(frozen=True)
class Group(Generic[Item]):
    """Consecutive shards that are sent as one, and the name of this task."""

    items: Sequence[Item]
    name: str


def in_groups(items: Sequence[Item], label: Callable[[Item], str]) -> list[Group[Item]]:
    """All shards of a stage in at most `MOST_TASKS` groups of equal size, because every task has its cost."""
    each = max(1, -(-len(items) // MOST_TASKS))
    groups = [items[start : start + each] for start in range(0, len(items), each)]
    return [Group(group, " to ".join(dict.fromkeys([label(group[0]), label(group[-1])]))) for group in groups]


class opened(Generic[Given, Result]):  # noqa: N801  # a decorator
    """A function that opens what shards need, such as networks on a device or the table of images, and keeps it.

    The result of the last call is kept in this process, until `MOST` other functions have opened something: what the
    labels of a set needed must not stay on a GPU while students are trained. The arguments must be hashable, and must
    contain the digests of what is opened, so that a changed file is not mistaken for the earlier one. Threads that ask
    for the same thing at the same time get one result.
    """

    def __init__(self, function: Callable[Given, Result]) -> None:
        self.function = function
        self.kept: tuple[Hashable, Result] | None = None
        self.lock = threading.RLock()
        update_wrapper(self, function)

    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        key = _key(args, kwargs)
        with self.lock:
            kept = self.kept
            if kept is None or kept[0] != key:
                self.kept = kept = None  # first, so that both are never in memory
                self.kept = kept = key, self.function(*args, **kwargs)
        self._limit()
        return kept[1]

    def put(self, result: Result, *args: Given.args, **kwargs: Given.kwargs) -> None:
        """Keep `result` as what a call with these arguments gives, where this process has it open already."""
        key = _key(args, kwargs)
        with self.lock:
            self.kept = key, result
        self._limit()

    def forget(self) -> None:
        """Let go of what is kept, so that its memory is free."""
        with self.lock:
            self.kept = None

    def _limit(self) -> None:
        with _lock:
            if self in _recent:
                _recent.remove(self)
            _recent.append(self)
            oldest = _recent.pop(0) if len(_recent) > MOST else None
        if oldest is not None:
            oldest.kept = None  # without its lock, for which a thread that is opening something could wait for ever


def _key(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
    key = args, tuple(sorted(kwargs.items()))
    hash(key)  # or a list could change after it was looked up
    return key


MOST = 3
_recent: list[opened[..., Any]] = []
_lock = threading.Lock()
