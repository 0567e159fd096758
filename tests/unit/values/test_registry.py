"""Types by name, OID and typmod."""

from __future__ import annotations

import pytest

from proxy.errors import ConfigError
from proxy.values.numeric import precision_scale
from proxy.values.registry import BASE, codec, parse_type, type_from_oid, type_sql

SPELLINGS = [
    ("text", "text", -1, "text"),
    ("varchar(254)", "varchar", 258, "character varying(254)"),
    ("character varying(254)", "varchar", 258, "character varying(254)"),
    ("  Character   VARYING ( 3 )", "varchar", 7, "character varying(3)"),
    ("int", "int4", -1, "integer"),
    ("bigint", "int8", -1, "bigint"),
    ("smallint", "int2", -1, "smallint"),
    ("numeric(10,2)", "numeric", 655366, "numeric(10,2)"),
    ("decimal(10)", "numeric", 655364, "numeric(10,0)"),
    ("numeric(3,-2)", "numeric", 198658, "numeric(3,-2)"),
    ("double precision", "float8", -1, "double precision"),
    ("float(30)", "float8", -1, "double precision"),
    ("boolean", "bool", -1, "boolean"),
    ("timestamptz(3)", "timestamptz", 3, "timestamp(3) with time zone"),
    ("timestamp with time zone", "timestamptz", -1, "timestamp with time zone"),
    ("timestamp(0) with time zone", "timestamptz", 0, "timestamp(0) with time zone"),
    ("timestamp(2) without time zone", "timestamp", 2, "timestamp(2) without time zone"),
    ("pg_catalog.jsonb", "jsonb", -1, "jsonb"),
]


@pytest.mark.parametrize(("sql", "name", "typmod", "shown"), SPELLINGS)
def test_parse_type_known_spelling_gives_type_and_its_sql(sql: str, name: str, typmod: int, shown: str) -> None:
    """A spelling becomes a name and a typmod, and format_type's spelling reads back as the same type."""
    type_ = parse_type(sql)
    assert (type_.name, type_.typmod, type_sql(type_)) == (name, typmod, shown)
    assert parse_type(shown) == type_
    assert type_from_oid(type_.oid, typmod) == type_


REFUSED = [
    ("varchr(3)", "varchar"),
    ("timestmp", "timestamp"),
    ("char(3)", None),
    ("interval", None),
    ("time with time zone", None),
    ("int4(3)", None),
    ("varchar(0)", None),
    ("varchar(3,4)", None),
    ("numeric(1001)", None),
    ("timestamptz(7)", None),
    ("float(10)", None),
    ("text[]", None),
    ("", None),
    ("int; drop table x", None),
]


@pytest.mark.parametrize(("sql", "suggestion"), REFUSED)
def test_parse_type_unknown_or_later_type_is_refused(sql: str, suggestion: str | None) -> None:
    """What is no type of this version is refused, with the nearest name where there is one."""
    with pytest.raises(ConfigError) as caught:
        parse_type(sql)
    assert suggestion is None or suggestion in (caught.value.hint or "")


def test_codec_equal_types_share_one_codec() -> None:
    """A codec is made once a type and typmod."""
    assert codec(parse_type("varchar(9)")) is codec(parse_type("character varying(9)"))
    assert all(codec(type_).type == type_ for type_ in BASE.values())


def test_type_from_oid_foreign_type_is_none() -> None:
    """Types pgseal has not are None, never guessed."""
    assert type_from_oid(869) is None
    assert type_from_oid(0) is None


def test_precision_scale_negative_scale_survives_the_typmod() -> None:
    """The scale is a signed field of eleven bits."""
    assert precision_scale(parse_type("numeric(3,-2)").typmod) == (3, -2)
    assert precision_scale(-1) is None
