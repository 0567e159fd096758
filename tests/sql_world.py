"""The tables of the SQL matrix: the same columns protected in six ways, their rules, their DDL and their rows.

A way is a mode (det, eq, rnd) and a storage. Of each there is `people_<way>` and `others_<way>`, which share the
context of `ssn`; `visits` is plain. The same DDL text runs through the proxy and in a database without one, so
that a statement has one text for both. One reason to change: what the cases of the matrix need to stand on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

DET, EQ, RND = "det", "eq", "rnd"
MODES: Final = (DET, EQ, RND)
STORAGES: Final = ("bytea", "text")
SEALED: Final = {
    "people": ("ssn", "alias", "pin", "born", "level"),
    "others": ("ssn",),
}
_MODE_OPTIONS: Final = {DET: "mode: deterministic", EQ: "search: equality", RND: "pad: none"}
_TYPES: Final = {
    "ssn": "text",
    "alias": "varchar(20)",
    "pin": "int4",
    "born": "date",
    "level": "text",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to protect: tables `people_det_bytea` and so on."""

    mode: str
    storage: str

    @property
    def name(self) -> str:
        return f"{self.mode}_{self.storage}"

    def table(self, kind: str) -> str:
        return f"{kind}_{self.name}"

    def fill(self, text: str) -> str:
        """{t} and {o} become this variant's tables."""
        return text.replace("{t}", self.table("people")).replace("{o}", self.table("others"))


VARIANTS: Final = tuple(Variant(mode, storage) for mode in MODES for storage in STORAGES)

_HEAD: Final = """
version: 1
tenant: {from: fixed, name: main}
roles:
  default: {read: deny}
  app: {read: plain}
tables:
"""


def rules() -> str:
    """The rules file of all variants."""
    return _HEAD + "".join(_table_rules(variant) for variant in VARIANTS)


def _table_rules(variant: Variant) -> str:
    lines = [f"  public.{variant.table('people')}:", "    columns:"]
    for column in SEALED["people"]:
        lines.append(f"      {column}: {{{_options(variant, column)}}}")
    lines += [f"  public.{variant.table('others')}:", "    columns:"]
    lines.append(f"      ssn: {{{_options(variant, 'ssn')}}}")
    return "\n".join(lines) + "\n"


def _options(variant: Variant, column: str) -> str:
    options = [f"type: {_TYPES[column]}", f"storage: {variant.storage}"]
    if variant.mode is not RND:
        options.append(_MODE_OPTIONS[variant.mode])
    elif _TYPES[column] == "text":
        options.append(_MODE_OPTIONS[RND])
    if column == "level":
        options.append("default: junior")
    if column == "ssn":
        options.append(f"context: {variant.name}.ssn")
    return ", ".join(options)


def ddl() -> Iterator[str]:
    """What makes the tables, plain or through the proxy."""
    for variant in VARIANTS:
        yield variant.fill(
            "CREATE TABLE {t} (id int PRIMARY KEY, name text, ssn text, alias varchar(20), pin int4,"
            " born date, level text DEFAULT 'junior', n int DEFAULT 7)"
        )
        yield variant.fill("CREATE TABLE {o} (id int PRIMARY KEY, person int, ssn text, note text)")
    yield "CREATE TABLE visits (id int PRIMARY KEY, person int, note text, at date)"


ROWS: Final = (
    "INSERT INTO {t} (id, name, ssn, alias, pin, born, level, n) VALUES"
    " (1, 'first', '123-45-6789', 'amber-fox', 70001, '1957-12-10', 'senior', 1),"
    " (2, 'second', '987-65-4321', 'brisk-owl', 70002, '1986-07-09', 'junior', 2),"
    " (3, 'third', '123-45-6789', 'amber-fox', 70001, '1957-12-10', 'senior', 3),"
    " (4, 'fourth', NULL, NULL, NULL, NULL, NULL, 4),"
    " (5, 'fifth', '', '', 0, '0044-03-15', '', 5),"
    " (6, 'sixth', 'ünïcödé 日本', 'O''Brien \\ \"q\"', -2147483647, '9999-12-31', 'lead', 6)",
    "INSERT INTO {o} (id, person, ssn, note) VALUES"
    " (1, 1, '123-45-6789', 'note one'), (2, 2, '555-55-5555', 'note two'), (3, 4, NULL, 'note three')",
)
VISITS: Final = (
    "INSERT INTO visits VALUES (1, 1, 'check-up', '2024-01-05'), (2, 1, 'x-ray', '2024-02-06'),"
    " (3, 2, NULL, NULL)"
)
CANARIES: Final = (b"123-45-6789", b"987-65-4321", b"555-55-5555", b"amber-fox", b"brisk-owl", b"senior")


def rows() -> Iterator[str]:
    """What fills them."""
    for variant in VARIANTS:
        for statement in ROWS:
            yield variant.fill(statement)
    yield VISITS
