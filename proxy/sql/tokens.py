"""The one spelling of a cell's index token in SQL: what indexes are made on, and what the planner matches.

One reason to change: where the token stands in an envelope."""

from __future__ import annotations

from typing import Final

from proxy.rules import Storage
from proxy.sql.catalog import SealedColumn

TOKEN_OF: Final = {
    Storage.BYTEA: (b"substring(", b" from 10 for 15)"),
    Storage.TEXT: (b"substr(", b',13,20) COLLATE "C"'),
}


def token_of(column: SealedColumn, name: bytes) -> bytes:
    """The token of the cell that `name` shows."""
    before, after = TOKEN_OF[column.rule.storage]
    return before + name + after
