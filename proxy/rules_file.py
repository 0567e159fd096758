"""The rules language: which keys a rules file has and what each may be, and its JSON Schema for editors.

Shapes only; what the keys mean together is `rules_load.py`. One reason to change: a key of the rules file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter

from proxy.rules import Compare, Isolation, Mode, OnUnsupported, Read, Scope, Storage, TenantFrom, Through, Write
from proxy.shape import Later
from proxy.values.masks import MAX_PATTERN_SIZE

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Flag = Annotated[bool, Strict()]
Name = Annotated[str, Field(min_length=1, max_length=63)]  # bytes are counted when the rules are resolved
TableName = Annotated[str, Field(min_length=3, max_length=200, pattern=r"^[^.\x00]+\.[^.\x00]+$")]
Tenant = Annotated[str, Field(min_length=1, max_length=255)]
Text = Annotated[str, Field(min_length=1, max_length=512)]
KeyType = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,62}$")]


def _words(raw: object) -> object:
    """`search: equality` is short for `search: {by: equality}`."""
    return {"by": raw} if isinstance(raw, str) else raw


def _block(raw: object) -> object:
    """`pad: none` is a block of 0."""
    return 0 if raw == "none" else (-1 if raw == 0 else raw)


def _quoted_null(raw: object) -> object:
    if raw is None:
        raise ValueError('null is written in quotes, "null", since the bare word is YAML\'s nothing')
    return raw


def _as_text(raw: object) -> object:
    """A default is written as PostgreSQL reads it: numbers and words of YAML are taken as they stand."""
    match raw:
        case bool():
            return "true" if raw else "false"
        case int():
            return str(raw)
        case _:
            return raw


@dataclass(frozen=True, slots=True)
class TenantShape:
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    source: Annotated[TenantFrom, Field(alias="from")]
    name: Tenant | None = None
    required: Flag = True


@dataclass(frozen=True, slots=True)
class SearchShape:
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    by: Literal["equality"]
    compare: Compare = Compare.EXACT
    scope: Scope = Scope.TENANT


Search = Annotated[
    SearchShape | None,
    BeforeValidator(_words, json_schema_input_type=Literal["equality"] | SearchShape | None),
]


@dataclass(frozen=True, slots=True)
class PatternShape:
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    pattern: Annotated[str, Field(min_length=1, max_length=MAX_PATTERN_SIZE)]


MaskWord = Literal["full", "last4", "first1", "email", "year"]
Default = Annotated[str | None, BeforeValidator(_as_text, json_schema_input_type=str | int | bool | None)]
Block = Annotated[int, Strict(), Field(ge=0, le=65536)]
Pad = Annotated[
    Block | None,
    BeforeValidator(
        _block, json_schema_input_type=Literal["none"] | Annotated[int, Field(ge=1, le=65536)] | None
    ),
]


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """One protected column. Whether `default` is written at all, the document tells."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    type: Text
    mode: Mode = Mode.RANDOMISED
    search: Search = None
    on_denied: Annotated[Literal["error", "null", "mask"], BeforeValidator(_quoted_null)] = "error"
    mask: MaskWord | PatternShape = "full"
    key_type: KeyType = "PII_DATA"
    context: Text | None = None
    default: Default = None
    storage: Storage = Storage.BYTEA
    pad: Pad = None
    bind: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    accept_leakage: Text | None = None


@dataclass(frozen=True, slots=True)
class TableShape:
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    columns: Annotated[Mapping[Name, ColumnShape], Field(min_length=1)]
    tenant: TenantShape | None = None
    isolation: Isolation = Isolation.NONE
    through: Through = Through.TABLE


@dataclass(frozen=True, slots=True)
class RoleShape:
    """`tenants` not written: every tenant."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    read: Annotated[Read, BeforeValidator(_quoted_null)]
    write: Write | None = None
    tenants: Annotated[tuple[Tenant, ...] | None, Field(min_length=1)] = None
    cross_tenant: Flag = False


@dataclass(frozen=True, slots=True)
class RulesShape:
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", title="pgseal rules of one database")
    version: Literal[1]
    tables: Annotated[Mapping[TableName, TableShape], Field(min_length=1)]
    database: Name | None = None
    tenant: TenantShape | None = None
    on_unsupported: OnUnsupported = OnUnsupported.REFUSE
    not_protected: tuple[TableName, ...] = ()
    roles: Mapping[Name, RoleShape] = field(default_factory=dict)


ADAPTER: Final[TypeAdapter[RulesShape]] = TypeAdapter(RulesShape)

LATER: Final[Later] = {
    ("tables", "*", "columns", "*", "token_column"): None,
    ("tables", "*", "columns", "*", "search"): frozenset({"range", "order", "prefix", "match"}),
    ("tables", "*", "columns", "*", "search", "by"): frozenset({"range", "order", "prefix", "match"}),
}


def schema_text() -> str:
    """The JSON Schema of a rules file, as `rules/schema.json` holds it."""
    schema = {"$schema": SCHEMA_DIALECT, **ADAPTER.json_schema(by_alias=True, mode="validation")}
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=True) + "\n"


def write_schema(path: Path) -> None:
    """Write `rules/schema.json`."""
    path.write_text(schema_text(), encoding="ascii")
