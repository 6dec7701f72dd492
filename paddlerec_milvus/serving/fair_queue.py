# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whose turn it is: callers share what there is evenly, however much one of them asks for.

Start-time fair queuing (Goyal, Vin and Cheng 1996, "Start-time Fair Queuing: A Scheduling Algorithm
for Integrated Services Packet Switching Networks", SIGCOMM): what a caller wants starts where its
last piece ended, in units of work, and the earliest start is next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from cachetools import LRUCache

CALLERS = 10_000  # whose work is remembered


class Caller(NamedTuple):
    """Who waits for an answer: names have their turns, and the connections of a name theirs."""

    name: str = ""
    """The key, without one the address."""
    connection: str = ""


NOBODY = Caller()

T = TypeVar("T")


class _Turns(Generic[T]):
    """The work of some callers so far, and who is next; ``name`` and ``work`` of a piece."""

    def __init__(self, name: Callable[[T], Hashable], work: Callable[[T], float]) -> None:
        self._name, self._work = name, work
        self._now = 0.0  # the start of what was done last
        self._ends: LRUCache[Hashable, float] = LRUCache(CALLERS)

    def starts(self, pieces: Sequence[T]) -> list[float]:
        """Where each of ``pieces`` starts, if those of a caller are done in this order."""
        ends: dict[Hashable, float] = {}
        starts = []
        for piece in pieces:
            name = self._name(piece)
            start = ends[name] if name in ends else self._next(name)
            ends[name] = start + self._work(piece)
            starts.append(start)
        return starts

    def charge(self, piece: T) -> None:
        """This piece is done now."""
        name = self._name(piece)
        self._now = self._next(name)
        self._ends[name] = self._now + self._work(piece)

    def _next(self, name: Hashable) -> float:
        return max(self._now, self._ends.get(name, 0.0))


class FairOrder(Generic[T]):
    """Orders pieces of work by their ``caller``; ``work`` is how much one is, above 0."""

    def __init__(self, caller: Callable[[T], Caller], work: Callable[[T], float]) -> None:
        self._caller, self._work = caller, work
        self._names = _Turns[T](lambda piece: caller(piece).name, work)
        self._connections: LRUCache[str, _Turns[T]] = LRUCache(CALLERS)

    def sort(self, waiting: Sequence[T]) -> list[T]:
        """``waiting``, which came in this order, in the order in which it is to be done."""
        if len(waiting) < 2:
            return list(waiting)
        by_name = defaultdict[str, list[tuple[int, T]]](list)
        for place, piece in enumerate(waiting):
            by_name[self._caller(piece).name].append((place, piece))
        placed = [one for name, pieces in by_name.items() for one in self._of_name(name, pieces)]
        starts = self._names.starts([piece for _, piece in placed])
        order = sorted(range(len(placed)), key=lambda number: (starts[number], placed[number][0]))
        return [placed[number][1] for number in order]

    def charge(self, piece: T) -> None:
        """This piece is done now, and its caller's next one comes the later."""
        self._names.charge(piece)
        self._turns(self._caller(piece).name).charge(piece)

    def _of_name(self, name: str, pieces: list[tuple[int, T]]) -> list[tuple[int, T]]:
        if len(pieces) == 1:
            return pieces
        starts = self._turns(name).starts([piece for _, piece in pieces])
        return [pieces[number] for number in sorted(range(len(pieces)), key=starts.__getitem__)]

    def _turns(self, name: str) -> _Turns[T]:
        if name not in self._connections:
            self._connections[name] = _Turns(
                lambda piece: self._caller(piece).connection, self._work
            )
        return self._connections[name]
