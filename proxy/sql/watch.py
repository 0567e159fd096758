"""What a text may name without being parsed: the cheap test before everything else.

A text passes unparsed if each of its statements is SELECT, INSERT, UPDATE, DELETE, VALUES, TABLE or WITH and
none of its identifiers is watched. The cheap test takes every run of identifier bytes, also inside strings
and comments, so it errs on the safe side only and needs no tokens; what it stops is looked at by tokens.
What is watched is decided by the catalog (`service/catalog_reader.py`); `SEED` is what always is.
One reason to change: what may pass unparsed.
"""

from __future__ import annotations

from typing import Final

from proxy.sql.lexer import Kind, Tokens
from proxy.values.patterns import re

OWN_SCHEMA: Final = "pgseal"

# functions that run SQL given as text in this or another session: what they do cannot be seen from outside
RUNNERS: Final = frozenset(
    {
        "query_to_xml",
        "query_to_xmlschema",
        "query_to_xml_and_xmlschema",
        "cursor_to_xml",
        "cursor_to_xmlschema",
        "table_to_xml",
        "table_to_xmlschema",
        "table_to_xml_and_xmlschema",
        "schema_to_xml",
        "schema_to_xmlschema",
        "schema_to_xml_and_xmlschema",
        "database_to_xml",
        "database_to_xmlschema",
        "database_to_xml_and_xmlschema",
        "ts_stat",
        "ts_rewrite",
        "dblink",
        "dblink_exec",
        "dblink_open",
        "dblink_send_query",
        "crosstab",
        "crosstab2",
        "crosstab3",
        "crosstab4",
        "connectby",
        "xpath_table",
    }
)
SET_CONFIG: Final = "set_config"
SETTINGS_VIEW: Final = "pg_settings"  # an UPDATE of it is a SET
SEED: Final = RUNNERS | {SET_CONFIG, SETTINGS_VIEW, OWN_SCHEMA}

_PLANNABLE: Final = frozenset({b"select", b"insert", b"update", b"delete", b"values", b"table", b"with"})
_HEAD: Final = re.compile(
    rb"(?:[ \t\n\r\f(]|--[^\n\r]*+|/\*(?:[^*/]++|\*(?!/)|/(?!\*))*+\*/)*+"
    rb"(?:select|insert|update|delete|values|table|with)(?![a-z0-9_$\x80-\xff])"
)
_WORDS: Final = re.compile(rb"[a-z_\x80-\xff][a-z0-9_\x80-\xff]*+")
_NAME_SIZE: Final = 63
_TAIL: Final = b" \t\r\n\f;"


def identifier(name: str) -> bytes:
    """A stored name as an identifier token compares with it."""
    return name.encode()


def fold(word: bytes) -> bytes:
    """An unquoted identifier as the server stores it: ASCII letters lowered, cut at 63 bytes."""
    return cut(word.lower())


def cut(name: bytes) -> bytes:
    """At most 63 bytes, whole UTF-8 characters."""
    if len(name) <= _NAME_SIZE:
        return name
    return name[:_NAME_SIZE].decode("utf-8", "ignore").encode()


class Watch:
    """The test for one watch set."""

    __slots__ = ("_folded", "_has_long", "_is_ascii", "_odd", "_watched")

    def __init__(self, watched: frozenset[bytes]) -> None:
        lowered = {name.lower() for name in watched}
        self._watched = watched
        self._folded = frozenset(name for name in lowered if _WORDS.fullmatch(name))
        self._odd = tuple(name.replace(b'"', b'""') for name in lowered - self._folded)
        self._is_ascii = all(name.isascii() for name in watched)
        self._has_long = any(len(name) > _NAME_SIZE - 4 for name in watched)

    def may_name(self, text: bytes) -> bool:
        """True unless no identifier of `text` can be watched, whatever strings and comments are in it."""
        lowered = text.lower()
        words = _WORDS.findall(lowered)
        if not self._folded.isdisjoint(words) or b'u&"' in lowered:
            return True
        if self._odd and any(name in lowered for name in self._odd):
            return True
        if self._has_long and any(len(word) > _NAME_SIZE - 4 for word in words):
            return True
        return not (self._is_ascii or lowered.isascii())

    def word_in(self, text: bytes) -> str:
        """A watched word of a text that `may_name` stops, for a message."""
        found = self._folded.intersection(_WORDS.findall(text.lower()))
        return min(found).decode() if found else "a protected relation"

    def passes(self, text: bytes) -> bool:
        """The cheap test: one statement that may pass unparsed. False: look at the tokens."""
        lowered = text.lower()
        if _HEAD.match(lowered) is None or b";" in lowered.rstrip(_TAIL):
            return False
        return not self.may_name(lowered)

    def names(self, text: bytes, tokens: Tokens, first: int = 0, last: int | None = None) -> frozenset[bytes]:
        """The watched identifiers among the tokens first..last (end exclusive)."""
        starts, ends = tokens.starts, tokens.ends
        found = set()
        for ordinal in range(first, len(tokens) if last is None else last):
            match tokens.kinds[ordinal]:
                case Kind.WORD:
                    name = fold(text[starts[ordinal] : ends[ordinal]])
                case Kind.QUOTED:
                    name = cut(text[starts[ordinal] + 1 : ends[ordinal] - 1].replace(b'""', b'"'))
                case Kind.UNICODE_NAME:
                    name = b'u&"'
                case _:
                    continue
            if name in self._watched or name == b'u&"':
                found.add(name)
        return frozenset(found)


def begins_plainly(text: bytes, tokens: Tokens) -> bool:
    """True where every statement of a text begins with a word after which no parse is needed."""
    is_head = True
    for ordinal, kind in enumerate(tokens.kinds):
        token = text[tokens.starts[ordinal] : tokens.ends[ordinal]]
        if is_head and token not in (b"(", b";"):
            if kind != Kind.WORD or token.lower() not in _PLANNABLE:
                return False
            is_head = False
        elif token == b";":
            is_head = True
    return True
