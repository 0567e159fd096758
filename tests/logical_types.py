"""Every logical type: spellings that it takes and refuses, and the table that holds it in each way to protect.

One reason to change: a logical type, or how a column of it can be protected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LONG: Final = "x" * 5000


@dataclass(frozen=True, slots=True)
class Kind:
    """`good` and `bad` are literals without quotes; `alike` compares equal to something in `good`."""

    type: str
    good: tuple[str, ...]
    bad: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    has_equality: bool = True
    has_det: bool = True

    @property
    def name(self) -> str:
        """As a part of a table's name."""
        return self.type.replace("(", "_").replace(",", "_").replace(")", "").replace(" ", "")

    @property
    def table(self) -> str:
        return f"ty_{self.name}"

    @property
    def comparable(self) -> tuple[str, ...]:
        """Columns that offer equality."""
        found = ("eb", "et") if self.has_equality else ()
        return (*found, *(("db", "dt") if self.has_det else ()))

    @property
    def columns(self) -> tuple[str, ...]:
        return ("rb", "rt", *self.comparable)

    def ddl(self) -> str:
        columns = ", ".join(f"{name} {self.type}" for name in self.columns)
        return f"CREATE TABLE {self.table} (id int PRIMARY KEY, {columns})"

    def rules(self) -> str:
        lines = [f"  public.{self.table}:", "    columns:"]
        return "\n".join([*lines, *(f"      {name}: {{{self._options(name)}}}" for name in self.columns)]) + "\n"

    def _options(self, column: str) -> str:
        mode = {"r": "mode: randomised", "e": "search: equality", "d": "mode: deterministic"}[column[0]]
        leak = ", accept_leakage: tests" if self.type == "bool" and column[0] != "r" else ""
        return f'type: "{self.type}", {mode}, storage: {"text" if column[1] == "t" else "bytea"}{leak}'


TEXTS: Final = (
    "",
    "a",
    " padded ",
    "O'Brien",
    'back\\slash "q"',
    "ünïcödé 日本 😀",
    "NULL",
    "\\x6162",
    "line\nfeed",
)

KINDS: Final = (
    Kind("text", (*TEXTS, LONG), alike=("a ",)),
    Kind("varchar", TEXTS),
    Kind(
        "varchar(20)", (*TEXTS, "exactly twenty chars", "and blanks behind   "), (LONG, "twenty-one characters")
    ),
    Kind("int2", ("0", "-1", "32767", "-32768", " 7 ", "+8"), ("32768", "x", "", "1.5"), ("00007",)),
    Kind("int4", ("0", "-1", "2147483647", "-2147483648", " 7 "), ("2147483648", "x", "", "1.5"), ("007",)),
    Kind(
        "int8",
        ("0", "-1", "9223372036854775807", "-9223372036854775808", "42"),
        ("9223372036854775808", "1e3", "0x"),
        ("042",),
    ),
    Kind(
        "numeric",
        ("0", "-0.00", "1.50", "12345678901234567890.123456789", "1e20", "NaN", "Infinity", "-Infinity", "0.001"),
        ("1..5", "", "x"),
        ("1.5", "1.500", "0.0010", "100000000000000000000"),
        has_det=False,
    ),
    Kind("numeric(12,2)", ("0", "-1.5", "9999999999.99", "1.005", "NaN"), ("10000000000", "Infinity"), ("1.01",)),
    Kind(
        "float8",
        ("0", "-0", "1.5", "1e308", "5e-324", "NaN", "Infinity", "-Infinity", "0.1", "1e23"),
        ("1e400", "x", ""),
        has_equality=False,
        has_det=False,
    ),
    Kind("bool", ("t", "f", "yes", "off", "1", " true "), ("2", "maybe", "")),
    Kind(
        "date",
        ("2000-01-01", "1957-12-10", "0001-01-01", "0044-03-15 BC", "5874897-12-31", "infinity", "-infinity"),
        ("2001-02-29", "x", "", "5874898-01-01"),
        ("20000101", "January 1, 2000", "2000.001"),
    ),
    Kind(
        "timestamp",
        ("2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "0044-03-15 12:00:00 BC", "infinity", "-infinity"),
        ("2001-02-29 00:00", "2000-01-01 25:00", "x"),
        ("2000-01-01", "1999-12-31 24:00:00", "2000-01-01T00:00:00"),
    ),
    Kind(
        "timestamp(3)",
        ("2000-01-01 00:00:00.1235", "1999-12-31 23:59:59.9999"),
        ("x",),
        ("2000-01-01 00:00:00.124",),
    ),
    Kind(
        "timestamptz",
        ("2000-01-01 00:00:00+00", "1999-12-31 23:59:59.999999-08", "infinity", "2000-07-01 12:00:00+05:30"),
        ("2000-01-01 00:00 Nowhere/Town", "x"),
        ("2000-01-01 01:00:00+01", "2000-07-01 06:30:00Z"),
    ),
    Kind(
        "uuid",
        ("00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
        ("a0eebc99", "x", ""),
        ("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
    ),
    Kind(
        "json",
        ('{"a": 1}', "[]", ' {"b" :  [1, 2.50] } ', "null", '"é"', "1e2"),
        ("{", "", "x"),
        has_equality=False,
        has_det=False,
    ),
    Kind(
        "jsonb",
        ('{"b": 1, "a": [1, 2.50, null]}', "[]", "null", '"é"', "1.0", '{"a": 1, "a": 2}'),
        ("{", "", '"\\u0000"'),
        ('{"a": [1.0, 2.5, null], "b": 1.00}', "1", '{"a": 2}'),
        has_det=False,
    ),
    Kind("bytea", ("", "\\x", "\\x00ff", "abc", "\\\\001", "\\xA60B35"), ("\\x0", "\\xzz"), ("\\x616263",)),
)
BY_NAME: Final = {kind.name: kind for kind in KINDS}


def rules() -> str:
    """The rules file of all of them."""
    head = "version: 1\ntenant: {from: fixed, name: main}\nroles: {app: {read: plain}}\ntables:\n"
    return head + "".join(kind.rules() for kind in KINDS)
