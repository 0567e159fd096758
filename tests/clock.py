"""A loop whose time passes only as its timers wait for it: what is due in a moment is due now, and in order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Skipping(selectors.DefaultSelector):
    """Instead of waiting for the next timer, its moment is here."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now_s += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Skipping()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s


def on_its_own_clock(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it without really waiting."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(coroutine)
