"""Errors and notices of the server over protected relations, as the client may see them.

The server speaks of what the table holds: a cell in a DETAIL, a token in a key, bytea where the client knows a
date. What is shown names the logical column and quotes neither cell nor token. The server's own words are kept
where they can hold names only, or were looked at and hold nothing that is written as cells and tokens are; else
the table below has the words for the SQLSTATE. Constraint, table and column fields always stay.

One reason to change: what the server may say of a protected relation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.errors import PgsealError, TenantUnknown
from proxy.session.copies import copy_places
from proxy.sql.guard import guard_name
from proxy.values.encodings import from_utf8
from proxy.values.registry import type_sql
from proxy.wire import backend as b

if TYPE_CHECKING:
    from proxy.rules import ColumnRule
    from proxy.sql.catalog import Snapshot
    from proxy.sql.plan import Overlay
    from proxy.sql.rewrite import Rendered
    from proxy.values.base import Settings

Fields = Sequence[tuple[int, bytes]]
CODE, MESSAGE, DETAIL, HINT, POSITION, CONTEXT = b"CMDHPW"
SCHEMA, TABLE, CONSTRAINT = b"stn"
NAMES: Final = b"stcdn"  # of schema, table, column, type and constraint
HIDDEN: Final = frozenset(b"DHWqp")  # detail, hint, context, internal query and position
OTHER_TENANT: Final = TenantUnknown(
    "a row to be updated belongs to another tenant than the session's",
    hint="Restrict the UPDATE to the session's tenant, or assign the tenant column too.",
)
# The words for a SQLSTATE (or its class) whose own message quotes a cell.
WORDS: Final[Mapping[bytes, str]] = {
    b"22001": "value too long",
    b"22003": "value out of range",
    b"22007": "invalid date or time",
    b"22008": "date or time out of range",
    b"22012": "division by zero",
    b"22021": "invalid byte sequence",
    b"22023": "invalid parameter value",
    b"22P02": "invalid input syntax",
    b"22P03": "incorrect binary format",
    b"22P05": "character without equivalent",
    b"22": "data exception",
    b"23502": "NOT NULL constraint violated",
    b"23503": "foreign key constraint violated",
    b"23505": "unique constraint violated",
    b"23514": "check constraint violated",
    b"23P01": "exclusion constraint violated",
    b"23": "constraint violated",
    b"42": "the statement does not fit the table",
    b"P0": "code in the database raised an error",
    b"00": "code in the database raised a notice",
    b"01": "code in the database raised a warning",
}
OTHER_WORDS: Final = "the server reports an error"
NOT_SHOWN: Final = "the server's own message quotes a cell and is not shown"
NAMES_ONLY: Final = (b"42", b"2BP01", b"0A000")  # details and hints of these hold no values

_NAME: Final = rb'(?:"(?:[^"]|"")+"|[^\s(),"]+)'
_TOKEN_CALL: Final = (
    rb'(?:"?substring"?|"?substr"?)\((?P<NAME>' + _NAME + rb")(?:, (?:10, 15|13, 20)| FROM 10 FOR 15)\)"
)
_TOKEN: Final = re.compile(
    rb"\(+" + _TOKEN_CALL.replace(b"?P<NAME>", b"?P<inner>") + rb'(?: COLLATE "C")?\)+'
    rb"|" + _TOKEN_CALL.replace(b"?P<NAME>", b"?P<bare>") + rb'(?: COLLATE "C")?',
    re.IGNORECASE,
)
_KEY: Final = re.compile(rb"[^(]*\((.*?)\)=\(", re.DOTALL)
_REFERENCE: Final = re.compile(
    rb'\) (is not present in table|is still referenced from table) ("(?:[^"]|"")+")\.\Z', re.DOTALL
)
_GUARD: Final = re.compile(rb"pgseal_[0-9a-f]{16}\Z")
_COLUMN_TYPE: Final = re.compile(rb'column "([^"]+)" is of type (?:bytea|text)\b')
# How a cell or token, or a part of one, may be written: hex, the escape format, base64, and its magic in each.
_WRITTEN: Final = re.compile(
    rb"\\x[0-9a-f]{4}|a60b35|pgs1|[0-9a-f]{24}|\\[0-7]{3}|0x[0-9a-f]{2}|[\x00-\x08\x0e-\x1f]", re.IGNORECASE
)
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{20,}")


@dataclass(frozen=True, slots=True)
class Source:
    """What was under way: the protected columns of the statement, and how its text became the server's."""

    snapshot: Snapshot
    overlay: Overlay
    columns: tuple[ColumnRule, ...]
    rendered: Rendered | None
    is_copy: bool
    settings: Settings


def is_of_protected(fields: Fields, snapshot: Snapshot) -> bool:
    """The server names a protected relation: a constraint may also fail at the end of a transaction, or in a
    statement that names the relation nowhere."""
    found = dict(fields)
    schema, table = found.get(SCHEMA), found.get(TABLE)
    if schema is None or table is None:
        return False
    relation = snapshot.relations.get((schema.decode("utf-8", "replace"), table.decode("utf-8", "replace")))
    return relation is not None and bool(relation.sealed)


def is_tenant_guard(fields: Fields) -> bool:
    """The cast by which a guarded UPDATE fails for a row of another tenant than the session's."""
    return (CODE, b"22P02") in fields and any(c == MESSAGE and b'"pgseal' in text for c, text in fields)


def may_hold_cell(text: bytes, *, has_names: bool = False) -> bool:
    """Something in it is written as a cell, a token or a part of one would be. `has_names`: what it quotes are
    names, of which some are long."""
    if _WRITTEN.search(text):
        return True
    return not has_names and any(run != run.lower() and run != run.upper() for run in _BASE64.findall(text))


def shown(fields: Fields, source: Source) -> bytes:
    """The ErrorResponse that the client gets for these fields of the server's."""
    return b.build_error_fields(list(_shown(fields, source)))


def shown_notice(fields: Fields, source: Source) -> bytes:
    """The same of a NoticeResponse."""
    return b"N" + b.build_error_fields(list(_shown(fields, source)))[1:]


def _shown(fields: Fields, source: Source) -> Iterator[tuple[int, bytes]]:
    found = dict(fields)
    code = found.get(CODE, b"")
    for kind, text in fields:
        if kind == CODE and text.startswith(b"PS"):
            yield kind, b"XX000"
        elif kind == MESSAGE:
            yield kind, _message(text, found, source)
        elif kind == POSITION and source.rendered is not None and text.isdigit():
            yield kind, str(source.rendered.to_client(int(text))).encode()
        elif kind == CONTEXT and source.is_copy:
            yield from ((kind, place) for place in copy_places(text))
        elif kind == DETAIL and code in _DETAILS:
            detail = _DETAILS[code](text, source)
            if detail is not None:
                yield kind, detail
        elif kind not in HIDDEN or (kind in (DETAIL, HINT) and _has_names_only(code, text)):
            yield kind, text


def _has_names_only(code: bytes, text: bytes) -> bool:
    return code.startswith(NAMES_ONLY) and not may_hold_cell(text, has_names=True)


# --- messages ----------------------------------------------------------------------------------------


def _message(text: bytes, found: Mapping[int, bytes], source: Source) -> bytes:
    code, constraint = found.get(CODE, b""), found.get(CONSTRAINT, b"")
    if code == b"23514" and _GUARD.match(constraint):
        return _encoded(_guard_words(constraint.decode(), source), source)
    if may_hold_cell(_without_names(text, found), has_names=code.startswith(NAMES_ONLY)):
        words = WORDS.get(code) or WORDS.get(code[:2]) or OTHER_WORDS
        labels = ", ".join(rule.label for rule in source.columns) or "a protected column"
        return _encoded(f"{words} ({labels}; {NOT_SHOWN})", source)
    return _COLUMN_TYPE.sub(lambda match: _with_logical_type(match, source), text)


def _without_names(text: bytes, found: Mapping[int, bytes]) -> bytes:
    """The message without the names that have fields of their own, whatever they look like."""
    for kind in NAMES:
        name = found.get(kind)
        if name:
            text = text.replace(b'"' + name + b'"', b"")
    return text


def _guard_words(constraint: str, source: Source) -> str:
    rules = (rule for table in source.snapshot.rules.tables.values() for rule in table.columns.values())
    label = next((rule.label for rule in rules if guard_name(rule) == constraint), "a protected column")
    return f"the guard of {label} took no plaintext: code in the database wrote a value that is not encrypted"


def _with_logical_type(match: re.Match[bytes], source: Source) -> bytes:
    name = match[1].decode("utf-8", "replace")
    rule = next((rule for rule in source.columns if rule.column == name), None)
    if rule is None:
        return match[0]
    return b'column "' + match[1] + b'" is of type ' + type_sql(rule.type).encode()


def _encoded(text: str, source: Source) -> bytes:
    try:
        return from_utf8(text.encode(), source.settings)
    except PgsealError:
        return text.encode("ascii", "replace")


# --- keys --------------------------------------------------------------------------------------------


def _key_exists(detail: bytes, source: Source) -> bytes | None:
    return _of_key(detail, source, lambda names: b"Key (" + names + b") already exists.")


def _key_conflicts(detail: bytes, source: Source) -> bytes | None:
    return _of_key(detail, source, lambda names: b"Key (" + names + b") conflicts with existing key.")


def _key_refers(detail: bytes, source: Source) -> bytes | None:
    found = _REFERENCE.search(detail)
    if found is None:
        return None
    return _of_key(detail, source, lambda names: b"Key (" + names + b") " + found[1] + b" " + found[2] + b".")


def _of_key(detail: bytes, source: Source, words: Callable[[bytes], bytes]) -> bytes | None:
    """`Key (a, "substring"(ssn, 10, 15))=(1, ..) ..` -> `Key (a, ssn) ..`; as it is where all of the key are
    plain columns; None where it is something else."""
    found = _KEY.match(detail)
    if found is None:
        return None
    names = _TOKEN.sub(lambda match: match["inner"] or match["bare"], found[1])
    if may_hold_cell(names, has_names=True):
        return None
    is_plain = names == found[1] and _are_plain(names, source) and not may_hold_cell(detail)
    return detail if is_plain else words(names)


def _are_plain(names: bytes, source: Source) -> bool:
    """Every one is a column's name, and no protected column anywhere is called so."""
    found = re.findall(_NAME, names)
    if b", ".join(found) != names:
        return False
    plain = [name[1:-1].replace(b'""', b'"') if name.startswith(b'"') else name for name in found]
    sealed = {name for table in source.snapshot.rules.tables.values() for name in table.columns}
    for relation in source.snapshot.relations.values():
        sealed.update(relation.sealed)
    for _, made in source.overlay.relations:
        sealed.update(made.sealed if made is not None else ())
    return not any(name.decode("utf-8", "replace") in sealed for name in plain)


_DETAILS: Final[Mapping[bytes, Callable[[bytes, Source], bytes | None]]] = {
    b"23503": _key_refers,
    b"23505": _key_exists,
    b"23P01": _key_conflicts,
}
