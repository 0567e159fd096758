"""Errors that `ensure` met, kept for some seconds: the next ask of a session raises instead of waiting again.

One reason to change: how long and how many errors are remembered.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import PgsealError
from proxy.keys.calls import Clock
from proxy.keys.material import KeyNeed

MAX_ERRORS: Final = 10_000


class Remembered:
    """Errors by need, each until its time; the oldest go when there are too many."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._errors: dict[KeyNeed, tuple[PgsealError, float]] = {}

    def put(self, need: KeyNeed, error: PgsealError) -> None:
        while len(self._errors) >= MAX_ERRORS:
            del self._errors[next(iter(self._errors))]
        self._errors.pop(need, None)
        self._errors[need] = (error, self._clock() + self._seconds)

    def check(self, need: KeyNeed, label: str | None = None) -> None:
        """Raises what is remembered of a need."""
        found = self._errors.get(need)
        if found is None:
            return
        error, until_s = found
        if self._clock() < until_s:
            raise again(error, label)
        del self._errors[need]

    def drop(self, need: KeyNeed) -> None:
        self._errors.pop(need, None)

    def clear(self) -> None:
        self._errors.clear()


def again(error: PgsealError, label: str | None = None) -> PgsealError:
    """The same error anew: one that was raised before carries the traceback of another session."""
    return type(error)(error.message, column=label or error.column, hint=error.hint)
