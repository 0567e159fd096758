"""What a COPY over something protected says to `session`: how its rows are written, and what each column is.

One reason to change: what the rows of a COPY need to be sealed or opened.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.sql.catalog import SealedColumn
from proxy.sql.plan import Slot
from proxy.values.base import LogicalType
from proxy.values.copy_format import Dialect


@dataclass(frozen=True, slots=True)
class CopyColumn:
    """One column of the client's rows. Into a table, `slot` seals the row's own value, parameter n of the
    n-th column, and `default` the rule's default. `bound` are the places of the row's `bind:` columns, `type` is
    what a plain column has that another is bound to, or what an expression over a sealed one is shown with."""

    name: str
    sealed: SealedColumn | None = None
    slot: Slot | None = None
    default: Slot | None = None
    type: LogicalType | None = None
    bound: tuple[int, ...] = ()
    force_quote: bool = False
    force_not_null: bool = False
    force_null: bool = False


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """`needed` are the columns whose values sealing looks at. `added` have a default in the rules and are not in
    the client's list: they stand behind its columns, with that default in every row. `skips_bad`: rows with a
    value that is none of its type are left out by the server."""

    is_in: bool
    relation: str  # as PostgreSQL names it in the context of errors
    dialect: Dialect
    encoding: str
    columns: tuple[CopyColumn, ...]
    needed: tuple[int, ...] = ()
    added: tuple[Slot, ...] = ()
    added_names: tuple[str, ...] = ()
    skips_bad: bool = False
