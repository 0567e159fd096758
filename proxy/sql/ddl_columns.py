"""Column definitions under a rule: how `ssn varchar(11) NOT NULL DEFAULT ''` becomes a physical column.

The declared type is replaced by the physical type and the guard; a literal DEFAULT that the rule has too is
taken out, since pgseal fills it in; NOT NULL stays. Everything else that would look at cells in the server is
refused. One reason to change: what a definition of a sealed column may say.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import PgsealError, SchemaMismatch
from proxy.rules import ColumnRule, Storage, TableRule, TenantFrom
from proxy.sql.catalog import Column, Relation, SealedColumn
from proxy.sql.draft import Draft
from proxy.sql.guard import guard_expression, guard_name, physical_type
from proxy.sql.parse import Node, bodies, strings
from proxy.sql.plan import Edit
from proxy.sql.spans import NoSpan, Spans
from proxy.values.base import LogicalType

_OIDS: Final = {
    "bool": 16,
    "bytea": 17,
    "int8": 20,
    "int2": 21,
    "int4": 23,
    "text": 25,
    "json": 114,
    "float4": 700,
    "float8": 701,
    "bpchar": 1042,
    "varchar": 1043,
    "date": 1082,
    "time": 1083,
    "timestamp": 1114,
    "timestamptz": 1184,
    "interval": 1186,
    "numeric": 1700,
    "uuid": 2950,
    "jsonb": 3802,
}
_SERIALS: Final = {"smallserial": "int2", "serial": "int4", "bigserial": "int8"} | {
    "serial2": "int2",
    "serial4": "int4",
    "serial8": "int8",
}
_INTEGERS: Final = ("int2", "int4", "int8")


def refusal(rule: ColumnRule, what: str, hint: str) -> PgsealError:
    """PS006 over one sealed column."""
    return SchemaMismatch(f"{rule.label} is encrypted: {what} is not supported", column=rule.label, hint=hint)


# --- types -------------------------------------------------------------------------------------------


def declared(type_name: Node) -> tuple[str, int] | None:
    """The internal name and typmod of a type as it is written; None for arrays, sets, %TYPE and types of other
    schemas."""
    names = strings(type_name.get("names", []))
    if names[:1] == ("pg_catalog",):
        names = names[1:]
    if len(names) != 1 or any(key in type_name for key in ("arrayBounds", "setof", "pct_type")):
        return None
    numbers = [item.get("A_Const", {}).get("ival", {}).get("ival", 0) for item in type_name.get("typmods", [])]
    return names[0], _typmod(names[0], numbers)


def _typmod(name: str, numbers: list[int]) -> int:
    if not numbers:
        return -1
    match name:
        case "varchar" | "bpchar":
            return numbers[0] + 4
        case "numeric":
            scale = numbers[1] if len(numbers) > 1 else 0
            return ((numbers[0] << 16) | (scale & 0x7FF)) + 4
        case _:
            return numbers[-1]


def fits(rule: LogicalType, name: str, typmod: int) -> bool:
    """True where every value of the declared type is one of the rule's, so that the rule may stand for it."""
    if {rule.name, name} == {"text", "varchar"}:
        return rule.typmod == -1
    if rule.name in _INTEGERS and name in _INTEGERS:
        return _INTEGERS.index(name) <= _INTEGERS.index(rule.name)
    if rule.name != name:
        return False
    if rule.typmod == -1 or rule.typmod == typmod:
        return True
    if name == "numeric":
        same_scale = (rule.typmod - 4) & 0x7FF == (typmod - 4) & 0x7FF
        return typmod != -1 and same_scale and typmod < rule.typmod
    return name != "bpchar" and -1 < typmod < rule.typmod


def check_type(rule: ColumnRule, type_name: Node) -> None:
    found = declared(type_name)
    if found is None or not fits(rule.type, *found):
        raise refusal(
            rule,
            "a type outside the rule's type",
            "Declare the rule's type, or change the rule.",
        )


# --- definitions -------------------------------------------------------------------------------------

_REFUSED: Final = {
    "CONSTR_UNIQUE": ("UNIQUE", "Leave it out, and make a unique index over the token directly in the database."),
    "CONSTR_PRIMARY": ("PRIMARY KEY", "Use a plain key column."),
    "CONSTR_FOREIGN": ("REFERENCES", "Refer to a plain key column."),
    "CONSTR_CHECK": ("CHECK", "Check the value in the application."),
    "CONSTR_GENERATED": ("GENERATED", "Compute the value in the application."),
    "CONSTR_IDENTITY": ("IDENTITY", "Use a plain column."),
    "CONSTR_EXCLUSION": ("EXCLUDE", "Leave it out."),
}
_HARMLESS: Final = frozenset({"CONSTR_NULL", "CONSTR_NOTNULL"})


def seal_column(draft: Draft, definition: Node, rule: ColumnRule) -> tuple[Edit, ...]:
    """The edits that make a ColumnDef physical. Raises PS006 for what cells cannot bear."""
    check_type(rule, definition["typeName"])
    if "collClause" in definition:
        raise refusal(rule, "COLLATE", "Leave it out: cells are compared by their bytes.")
    spans = Spans(draft)
    try:
        first = spans.at(definition["typeName"])
        edits = [Edit(first, spans.type_end(first), (_physical(rule),))]
        for item in definition.get("constraints", []):
            edits.extend(_constraint(spans, item["Constraint"], rule))
    except NoSpan:
        raise refusal(rule, "a definition of this form", "Write it in its simplest form.") from None
    return tuple(edits)


def _physical(rule: ColumnRule) -> bytes:
    return f'{physical_type(rule)} CONSTRAINT "{guard_name(rule)}" CHECK ({guard_expression(rule)})'.encode()


def _constraint(spans: Spans, constraint: Node, rule: ColumnRule) -> list[Edit]:
    kind = constraint["contype"]
    if kind in _HARMLESS:
        return []
    if kind == "CONSTR_DEFAULT":
        return _default(spans, constraint, rule)
    raise constraint_refusal(kind, rule)


def constraint_refusal(kind: str, rule: ColumnRule) -> PgsealError:
    what, hint = _REFUSED.get(kind, ("this constraint", "Leave the encrypted column out of it."))
    return refusal(rule, what, hint)


def _default(spans: Spans, constraint: Node, rule: ColumnRule) -> list[Edit]:
    expression = constraint["raw_expr"]
    value = expression
    while "TypeCast" in value:
        value = value["TypeCast"]["arg"]
    constant = value.get("A_Const", {})
    if constant.get("isnull"):
        return []
    text = constant.get("sval", {}).get("sval", "") if "sval" in constant else None
    if text is None and "ival" in constant:
        text = str(constant["ival"].get("ival", 0))
    if text is None or not rule.has_default or rule.default != text.encode():
        raise refusal(
            rule,
            "a DEFAULT that is not the literal of the rule's `default:`",
            "Give the rule that default, or none in SQL.",
        )
    first = spans.at(constraint)
    return [Edit(first, spans.after(first, expression), ())]


# --- what the catalog will then say --------------------------------------------------------------------


def columns_of(definitions: list[Node], rule: TableRule | None) -> tuple[Column, ...]:
    return tuple(column_of(item, number, rule) for number, item in enumerate(definitions, 1))


def column_of(definition: Node, attnum: int, rule: TableRule | None) -> Column:
    """A Column as pg_attribute will have it. A type that is not known here has OID 0."""
    name = definition["colname"]
    kinds = {item["Constraint"]["contype"] for item in definition.get("constraints", [])}
    not_null = bool(kinds & {"CONSTR_NOTNULL", "CONSTR_PRIMARY", "CONSTR_IDENTITY"})
    sealed = rule.columns.get(name) if rule is not None else None
    if sealed is not None:
        oid = 17 if sealed.storage is Storage.BYTEA else 25
        return Column(name, attnum, oid, not_null=not_null)
    type_name, typmod = declared(definition.get("typeName", {})) or ("", -1)
    is_serial = type_name in _SERIALS
    return Column(
        name,
        attnum,
        _OIDS.get(_SERIALS.get(type_name, type_name), 0),
        typmod,
        not_null or is_serial,
        has_default=is_serial or bool(kinds & {"CONSTR_DEFAULT", "CONSTR_IDENTITY"}),
        is_generated="CONSTR_GENERATED" in kinds,
    )


def relation_with(
    columns: tuple[Column, ...], rule: TableRule | None, key: tuple[str, str], oid: int = 0, kind: str = "r"
) -> Relation:
    """A table of these columns under its rule."""
    ruled = rule.columns if rule is not None else {}
    sealed = {
        column.name: SealedColumn(oid, column.attnum, ruled[column.name], column.not_null)
        for column in columns
        if column.name in ruled
    }
    return Relation(oid, *key, kind, columns, sealed, rule, tenant_column_of(columns, rule))


def tenant_column_of(columns: tuple[Column, ...], rule: TableRule | None) -> str | None:
    if rule is None or rule.tenant.source is not TenantFrom.COLUMN:
        return None
    return rule.tenant.name if any(column.name == rule.tenant.name for column in columns) else None


# --- what an expression or constraint looks at ---------------------------------------------------------

_KEYS: Final = ("keys", "fk_attrs", "including")
_ELEMENTS: Final = ("IndexElem", "PartitionElem", "StatsElem")


def mentioned(tree: Node) -> frozenset[str]:
    """The columns a constraint, index, statistics object or expression names; every name of a reference
    counts, since `t.c` may be a column or a whole row, and * stands for all."""
    found: set[str] = set()
    for body in bodies(tree):
        for key in _KEYS:
            found.update(strings(body.get(key, [])))
        for key in _ELEMENTS:
            found.add(body.get(key, {}).get("name", ""))
        for field in body.get("ColumnRef", {}).get("fields", []):
            found.add("*" if "A_Star" in field else field["String"].get("sval", ""))
    return frozenset(found)


def looked_at(tree: Node, relation: Relation) -> SealedColumn | None:
    """A sealed column of `relation` that `tree` names, by itself or as part of the whole row."""
    names = mentioned(tree)
    if names & {"*", relation.name}:
        return next(iter(relation.sealed.values()), None)
    return next((sealed for name, sealed in relation.sealed.items() if name in names), None)
