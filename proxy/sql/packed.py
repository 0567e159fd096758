"""What a plan made in another process is sent as: few objects, since each costs the event loop's process time.

Spans of tokens go as two arrays. The small objects of which a long text has tens of thousands (slots, edits,
parameters, constants) are rebuilt by their constructors: the default for frozen dataclasses sets field by field
in Python and costs five times as much. One reason to change: what of a plan is numerous.
"""

from __future__ import annotations

import copyreg
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, overload

from proxy.sql.lexer import Tokens
from proxy.sql.plan import ClientParam, Edit, ServerParam, Slot, TenantOf
from proxy.values.constants import Call, Cast, Const, Lifted, Param


class Spans(Sequence[tuple[int, int]]):
    """(start, end) of each token, in two arrays."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, starts: array[int], ends: array[int]) -> None:
        self._starts = starts
        self._ends = ends

    @classmethod
    def of(cls, tokens: Tokens) -> Spans:
        return cls(array("I", tokens.starts), array("I", tokens.ends))

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, place: slice) -> Spans: ...
    def __getitem__(self, place: int | slice) -> tuple[int, int] | Spans:
        if isinstance(place, slice):
            return Spans(self._starts[place], self._ends[place])
        return self._starts[place], self._ends[place]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and (self._starts, self._ends) == (other._starts, other._ends)

    def __hash__(self) -> int:
        return hash((len(self._starts), self._ends[-1] if self._ends else 0))

    def __reduce__(self) -> tuple[type[Spans], tuple[array[int], array[int]]]:
        return Spans, (self._starts, self._ends)


def _by_constructor(kind: type[Any]) -> None:
    names = [field.name for field in fields(kind)]
    values = attrgetter(*names)
    if len(names) == 1:
        copyreg.pickle(kind, lambda made: (kind, (values(made),)))
    else:
        copyreg.pickle(kind, lambda made: (kind, values(made)))


for _kind in (Slot, Edit, TenantOf, ServerParam, ClientParam, Lifted, Param, Const, Cast, Call):
    _by_constructor(_kind)
