"""Inputs for every logical type, good and bad, from one seeded generator: what real and hostile clients send.

Each generator makes wire bytes; the tests compare a codec's answer with a real server's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Any, Final

SPACES: Final = ("", "", "", " ", "\t", "\n ", " \f")
MONTHS: Final = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
    "january",
    "sept",
    "March",
    "DECEMBER",
]
ZONES: Final = (
    "",
    "",
    "Z",
    "+05",
    "-0330",
    "+05:30",
    " America/New_York",
    "+16",
    "-12:30:15",
    " UTC",
    " europe/berlin",
    *(" EST", " Foo/Bar", " foo", " Asia/Kathmandu", " GMT+3", " EST5EDT", " +3"),
)
ODD: Final = ("", "x", "-", ":", ".", " ", "0", "é", "/", "+", "e", "\\", '"', ",")


class Inputs:
    """`make(type)` gives one text input, `make_binary(type)` one binary input."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def make(self, type_name: str) -> bytes:
        return self._makers()[type_name.split("(")[0]]().encode("utf-8", "surrogateescape")

    def make_binary(self, type_name: str) -> bytes:
        return self._binary_makers()[type_name.split("(")[0]]()

    def _makers(self) -> dict[str, Callable[[], str]]:
        return {
            **dict.fromkeys(("int2", "int4", "int8"), self.integer),
            "numeric": self.numeric,
            "float8": self.double,
            "bool": self.boolean,
            "uuid": self.uuid,
            "bytea": self.bytea,
            "text": self.text,
            "varchar": self.text,
            "json": self.json,
            "jsonb": self.json,
            "date": lambda: self.moment(0.2),
            "timestamp": lambda: self.moment(0.7),
            "timestamptz": lambda: self.moment(0.7),
        }

    def _binary_makers(self) -> dict[str, Callable[[], bytes]]:
        return {
            "int2": lambda: self.sized(2),
            "int4": lambda: self.sized(4),
            "int8": lambda: self.sized(8),
            "float8": lambda: self.sized(8),
            "bool": lambda: self.sized(1),
            "uuid": lambda: self.sized(16),
            "bytea": lambda: self.sized(5),
            "numeric": self.packed_numeric,
            "text": lambda: self.text().encode("utf-8", "surrogateescape"),
            "varchar": lambda: self.text().encode("utf-8", "surrogateescape"),
            "json": lambda: self.json().encode(),
            "jsonb": lambda: self.pick(b"\1", b"\1", b"\1", b"\2", b"") + self.json().encode(),
            "date": self.packed_date,
            "timestamp": self.packed_stamp,
            "timestamptz": self.packed_stamp,
        }

    def pick(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def space(self) -> str:
        return self.random.choice(SPACES)

    def digits(self, most: int) -> str:
        return "".join(self.random.choice("0123456789") for _ in range(self.random.randrange(1, most)))

    def mutate(self, text: str) -> str:
        """Mostly the text itself, else with one character put in or exchanged."""
        if self.random.random() < 0.7:
            return text
        at = self.random.randrange(len(text) + 1)
        return text[:at] + self.random.choice(ODD) + text[at + self.random.randrange(2) :]

    def integer(self) -> str:
        edges = ("32767", "32768", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808")
        number = self.pick(self.digits(6), self.digits(12), self.digits(22), *edges, "0", "00012")
        return self.mutate(self.space() + self.pick("", "", "-", "+") + number + self.space())

    def numeric(self) -> str:
        number = self.pick(
            self.digits(6),
            f"{self.digits(30)}.{self.digits(20)}",
            "." + self.digits(9),
            self.digits(5) + ".",
            f"{self.digits(3)}e{self.pick('', '+', '-')}{self.digits(4)}",
            f"{self.digits(3)}.{self.digits(8)}E{self.pick('', '-')}{self.digits(3)}",
            *("NaN", "inf", "Infinity", "nan", "0", "0.000", "-0.00", "1e-16383", "1e-16384", "1e131071"),
            *("1e131072", "9.99", "999.995", "99.995", "0e99999", "1e99999999999"),
        )
        return self.mutate(self.space() + self.pick("", "", "-", "+") + number + self.space())

    def double(self) -> str:
        any_double = struct.unpack(">d", self.random.randbytes(8))[0]
        number = self.pick(
            repr(any_double),
            repr(self.random.random()),
            str(self.random.randrange(10**20)),
            f"{self.digits(18)}e{self.pick('', '-')}{self.digits(4)}",
            *("1e23", "5e-324", "1e-400", "1e400", "0e500", "1.7976931348623157e308", "1.7976931348623159e308"),
            str(float(self.random.randrange(10 ** self.random.randrange(1, 40)))),
            *("NaN", "infinity", "-Inf", "1.5", "-0"),
        )
        return self.mutate(number + self.space())

    def boolean(self) -> str:
        words = [
            "t",
            "tr",
            "true",
            "f",
            "fals",
            "y",
            "yes",
            "n",
            "no",
            "on",
            "off",
            "of",
            "o",
            "1",
            "0",
            "TRUE",
            "11",
        ]
        return self.mutate(self.space() + self.pick(*words) + self.space())

    def uuid(self) -> str:
        plain = self.random.randbytes(16).hex()
        plain = self.pick(plain, plain.upper())
        groups = "".join(plain[i : i + 4] + self.pick("", "-") for i in range(0, 32, 4)).rstrip("-")
        usual = "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))
        return self.mutate(self.pick(groups, usual, "{" + usual + "}", "{" + usual, usual + "-"))

    def bytea(self) -> str:
        return self.mutate(
            self.pick(
                "\\x" + self.random.randbytes(self.random.randrange(6)).hex(),
                "\\x" + self.random.randbytes(3).hex(" "),
                "\\x" + self.digits(7),
                *("a\\\\b\\001\\377", "\\400", "\\x0 0", "\\xzz"),
                "".join(chr(self.random.randrange(1, 0x250)) for _ in range(5)),
            )
        )

    def text(self) -> str:
        letters = ("a", "b", " ", " ", "é", "ß", "漢", "😀", "\x01")
        body = "".join(self.random.choice(letters) for _ in range(self.random.randrange(12)))
        return body + self.pick("", "", "", "   ", "\udcff", "\udcc0\udc80", "\udced\udca0\udc80")

    def json(self) -> str:
        return self.mutate(self.space() + self._json_value(0) + self.space())

    def _json_value(self, depth: int) -> str:
        kind = self.random.randrange(9 if depth < 3 else 6)
        if kind == 0:
            inner = [
                "a",
                "b",
                "\\n",
                "\\u00e9",
                "\\ud83d\\ude00",
                "\\ud83d",
                "\\u0000",
                "é",
                "\\/",
                '\\"',
                "\\u001f",
                "\x7f",
                "\\b",
                "z",
                "z",
                "z",
                "z",
            ]
            return '"' + "".join(self.random.choice(inner) for _ in range(self.random.randrange(6))) + '"'
        if kind == 1:
            return self.pick(
                *[
                    "1",
                    "-0",
                    "0.0",
                    "1.50",
                    "1e3",
                    "1E-3",
                    "-1.5e+2",
                    "01",
                    "1.",
                    ".5",
                    "1e400",
                    "-",
                    "12x",
                    "12345678901234567890",
                ]
            )
        if kind <= 5:
            return self.pick("1", '"x"', "null", "[]", "{}", " { } ", "true", "false", "nul", "True")
        values = [self._json_value(depth + 1) for _ in range(self.random.randrange(4))]
        if kind == 8:
            return "[" + ",".join(self.space() + value for value in values) + "]"
        keys = ("a", "bb", "b", "é", "ccc", "")
        return "{" + ",".join(f'"{self.random.choice(keys)}"{self.space()}:{value}' for value in values) + "}"

    def _date(self) -> str:
        roll = self.random.randrange
        year = self.pick(
            str(roll(1900, 2100)), f"{roll(1, 10000):04d}", f"{roll(100):02d}", str(roll(300000)), "0"
        )
        month = self.pick(str(roll(1, 13)), f"{roll(0, 15):02d}")
        day = self.pick(str(roll(1, 29)), f"{roll(0, 33):02d}")
        name = self.random.choice(MONTHS)
        parts = self.pick(
            *((year, month, day), (year, month, day), (month, day, year), (day, month, year)),
            *((name, day, year), (day, name, year), (year, name, day), (year, f"{roll(380):03d}")),
        )
        plain = self.pick("-", "/", ".", "-", " ").join(parts)
        return self.pick(
            *(plain, plain, plain, f"{name.title()} {day}, {year}", f"{self.pick('Mon', 'sat.')} {plain}"),
            *(self.digits(9), f"{roll(1900, 2100)}{roll(1, 13):02d}{roll(1, 29):02d}", "infinity", "-infinity"),
        )

    def _clock(self) -> str:
        roll = self.random.randrange
        clock = self.pick(
            f"{roll(25)}:{roll(60):02d}",
            f"{roll(24):02d}:{roll(60):02d}:{roll(61):02d}",
            f"{roll(24):02d}:{roll(60):02d}:{roll(60):02d}.{self.digits(9)}",
            *("24:00:00", "24:00:01", "12:60", "1:2:3", "23:59:59.9999999"),
            f"{roll(25):02d}{roll(60):02d}{roll(60):02d}",
            f"{roll(60)}:{roll(60):02d}.5",
        )
        return clock + self.pick("", "", " am", " PM", "pm")

    def moment(self, with_time: float) -> str:
        text = self._date()
        if self.random.random() < with_time:
            clock = self._clock()
            text = self.pick(f"{text} {clock}", f"{text}T{clock}", f"{text} {clock}", f"{clock} {text}")
            text += self.random.choice(ZONES)
        return self.mutate(self.space() + text + self.pick("", "", "", " BC", " AD", "BC") + self.space())

    # -- binary -------------------------------------------------------------------------------------

    def sized(self, size: int) -> bytes:
        return self.random.randbytes(self.pick(size, size, size, size, size - 1, size + 1, 0))

    def packed_numeric(self) -> bytes:
        roll = self.random.randrange
        count = roll(5)
        sign = self.pick(0, 0, 0x4000, 0xC000, 0xD000, 0xF000, 0x8000)
        header = struct.pack(
            ">hhHH", count + self.pick(0, 0, 0, 0, 1), roll(-4, 5), sign, self.pick(0, 2, 5, 20, 16383, 0x4000)
        )
        digits = (
            self.pick(0, 9999, roll(10000), 10000, -1) if self.random.random() < 0.2 else roll(10000)
            for _ in range(count)
        )
        return header + b"".join(struct.pack(">h", digit) for digit in digits)

    def packed_date(self) -> bytes:
        roll = self.random.randrange
        days = self.pick(roll(-(10**6), 10**6), 2**31 - 1, -(2**31), roll(-(2**31), 2**31))
        return self.pick(struct.pack(">i", days), struct.pack(">i", days), self.random.randbytes(3))

    def packed_stamp(self) -> bytes:
        roll = self.random.randrange
        edges = (2**63 - 1, -(2**63), roll(-(2**63), 2**63))
        micros = self.pick(roll(-(10**15), 10**16), roll(-3 * 10**16, 3 * 10**16), roll(10**18), *edges)
        return struct.pack(">q", micros)
