# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whose turn it is: callers share what there is evenly, however much one of them asks for.

Virtual clock with one clock for all (after Zhang 1990, "VirtualClock: A New Traffic Control
Algorithm for Packet Switching Networks", SIGCOMM): the clock is the work that has been done. With n
callers a piece of work w is w n of the clock for its caller, whose next piece comes no earlier; so
nobody has more than its share, and nobody waits for ever, even for callers who are always new.
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
    """The turns of some callers; ``name`` and ``work`` are those of a piece."""

    def __init__(self, name: Callable[[T], Hashable], work: Callable[[T], float]) -> None:
        self._name, self._work = name, work
        self._clock, self.callers = 0.0, 1
        self._ends: LRUCache[Hashable, float] = LRUCache(CALLERS)

    def starts(self, pieces: Sequence[T]) -> list[float]:
        """When it is the turn of each of ``pieces``, those of a caller in this order."""
        self.callers = len(set(map(self._name, pieces)))
        ends: dict[Hashable, float] = {}
        starts = []
        for piece in pieces:
            name = self._name(piece)
            start = ends[name] if name in ends else self._next(name)
            ends[name] = start + self._share(piece)
            starts.append(start)
        return starts

    def charge(self, piece: T) -> None:
        """This piece is done now."""
        name = self._name(piece)
        self._ends[name] = self._next(name) + self._share(piece)
        self._clock += self._work(piece)

    def _next(self, name: Hashable) -> float:
        return max(self._clock, self._ends.get(name, 0.0))

    def _share(self, piece: T) -> float:
        return self._work(piece) * self.callers


class FairOrder(Generic[T]):
    """Orders pieces of work by their ``caller``; ``work`` is how much one is, above 0."""

    def __init__(self, caller: Callable[[T], Caller], work: Callable[[T], float]) -> None:
        self._caller, self._work = caller, work
        self._names = _Turns[T](lambda piece: caller(piece).name, work)
        self._connections: LRUCache[str, _Turns[T]] = LRUCache(CALLERS)

    def sort(self, waiting: Sequence[T]) -> list[T]:
        """``waiting``, which came in this order, in the order in which it is to be done."""
        if len(waiting) == 1:
            self._names.callers = self._turns(self._caller(waiting[0]).name).callers = 1
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
        starts = self._turns(name).starts([piece for _, piece in pieces])
        return [pieces[number] for number in sorted(range(len(pieces)), key=starts.__getitem__)]

    def _turns(self, name: str) -> _Turns[T]:
        if name not in self._connections:
            self._connections[name] = _Turns(
                lambda piece: self._caller(piece).connection, self._work
            )
        return self._connections[name]
