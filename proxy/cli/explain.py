"""`pgseal explain`: what happens to a statement, without running it."""

from __future__ import annotations

EXAMPLE = ""


def explain() -> None: ...
