"""One case of the matrix of SQL, and how cases are written down.

One reason to change: what a case has to say.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from tests.sql_world import DET, EQ, MODES

ALL: Final = frozenset(MODES)
COMPARABLE: Final = frozenset({DET, EQ})
NONE: Final[frozenset[str]] = frozenset()
BORN: Final = dt.date(1957, 12, 10)
WRITES: Final = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "WITH", "MERGE")


@dataclass(frozen=True, slots=True)
class Case:
    """`form` is the row it stands for; `named` is what a refusal names, or |-separated choices."""

    form: str
    sql: str
    values: tuple[Any, ...] = ()
    works: frozenset[str] = ALL
    sqlstate: str = "PS001"
    named: str = "public.{t}.|public.{o}."

    @property
    def id(self) -> str:
        return f"{self.form}: {self.sql}"[:90]

    @property
    def is_write(self) -> bool:
        return self.sql.startswith((*WRITES, "EXPLAIN (ANALYZE"))

    @property
    def is_ordered(self) -> bool:
        return "ORDER BY" in self.sql or " OVER " in self.sql


def cases(
    form: str, works: frozenset[str], *rows: str | tuple[Any, ...], sqlstate: str = "PS001", named: str = ""
) -> list[Case]:
    """Rows of one form: a text, or a text and its values."""
    found = []
    for row in rows:
        text, *values = row if isinstance(row, tuple) else (row,)
        found.append(Case(form, text, tuple(values), works, sqlstate, named or "public.{t}.|public.{o}."))
    return found
