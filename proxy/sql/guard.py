"""The guard of a protected column, and the one spelling of its index token, as SQL.

Guards are normative in docs/envelope.md ("Guards"), where each has vectors; data outlives code, so a text here
changes only with the envelope's version. The token expression is matched by the planner of PostgreSQL against
indexes, so that it has exactly one spelling. One reason to change: the layout of an envelope's head.
"""

from __future__ import annotations

import hashlib
from typing import Final

from proxy.rules import ColumnRule, Mode, Storage

_BYTEA: Final = (
    "CASE WHEN {c} IS NULL THEN true WHEN length({c}) < {size} THEN false"
    " ELSE substr({c},1,4) = '\\xa60b35{suite}'::bytea AND get_byte({c},4) & 13 = {flags} END"
)
_TEXT: Final = (
    "CASE WHEN {c} IS NULL THEN true WHEN length({c}) < {size} THEN false"
    " ELSE left({c},4) COLLATE \"C\" = 'pgs1' AND substr({c},5,3) COLLATE \"C\" ~ '{head}' END"
)


def quoted(name: str) -> str:
    """A name as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def guard_name(rule: ColumnRule) -> str:
    """Short enough for every server: names are cut at 63 bytes."""
    return "pgseal_" + hashlib.sha256(rule.context.encode()).hexdigest()[:16]


def guard_expression(rule: ColumnRule, column: str | None = None) -> str:
    """The CHECK's expression, for a server with standard_conforming_strings = on; `column` where a partition
    or child calls it otherwise."""
    c = quoted(column or rule.column)
    is_deterministic = rule.mode is Mode.DETERMINISTIC
    has_token = rule.search and not is_deterministic
    if rule.storage is Storage.BYTEA:
        size = 25 if is_deterministic else 52 if has_token else 37
        suite = "02" if is_deterministic else "01"
        return _BYTEA.format(c=c, size=size, suite=suite, flags=int(has_token))
    size = 34 if is_deterministic else 70 if has_token else 50
    head = "^A[g-v][A-DI-L]" if is_deterministic else "^A[Q-Za-f][E-HM-P]" if has_token else "^A[Q-Za-f][A-DI-L]"
    return _TEXT.format(c=c, size=size, head=head)


def token_expression(rule: ColumnRule, column: str | None = None) -> str:
    """What an index on a searchable column is on: the 15 bytes of the token (20 characters of text storage),
    the whole cell where it is deterministic."""
    c = quoted(column or rule.column)
    if rule.mode is Mode.DETERMINISTIC:
        return c
    if rule.storage is Storage.BYTEA:
        return f"substring({c} from 10 for 15)"
    return f'substr({c},13,20) COLLATE "C"'


def index_ddl(rule: ColumnRule, schema: str, table: str) -> str:
    """The index that serves equality on a searchable column."""
    return f"CREATE INDEX ON {quoted(schema)}.{quoted(table)} (({token_expression(rule)}))"


def physical_type(rule: ColumnRule) -> str:
    """What the table has. No collation is named: cells are compared as a whole or by the token's own."""
    return rule.storage.value
