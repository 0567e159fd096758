"""The verdict on one protected column: physical type, guard, default, indexes, constraints, dependents.

Pure: a rule and the live table in, findings with the DDL to run out. One reason to change: what a protected
column must look like in the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pglast.parser

from proxy.rules import ColumnRule, Mode, Scope, Storage, TableRule, TenantFrom
from proxy.service.findings import Finding, Weight, quoted, quoted_table
from proxy.service.live_schema import LiveColumn, LiveConstraint, LiveIndex, LiveTable
from proxy.sql.guard import guard_expression, guard_name, physical_type, token_expression

PHYSICAL_OIDS: Final = {Storage.BYTEA: 17, Storage.TEXT: 25}
FEW_VALUES: Final = frozenset({"bool"})
SHORT_TEXT: Final = frozenset({"bpchar", "varchar"})
SHORTEST: Final = 2  # characters; a code of two letters has a few hundred values


def check_column(table: TableRule, rule: ColumnRule, live: LiveTable) -> Iterator[Finding]:
    column = live.columns.get(rule.column)
    if column is None:
        reason = "is not there yet; ADD COLUMN through pgseal makes it with its guard (or is the name misspelt?)"
        yield Finding(Weight.NOTES, "column_missing", reason, rule.column)
        return
    if column.type_oid != PHYSICAL_OIDS[rule.storage]:
        yield _wrong_type(rule, column, live, physical_type(rule))
        return
    yield from _guard(rule, live)
    yield from _shape(rule, column, live)
    for constraint in live.constraints:
        yield from _constraint(table, rule, live, constraint)
    for index in live.indexes:
        yield from _index(table, rule, live, index)
    yield from _search_index(rule, live)
    yield from _dependents(rule, live)


# --- type, guard, default -----------------------------------------------------------------------------


def check_rule(rule: ColumnRule) -> Iterator[Finding]:
    """What can be told from the rule alone."""
    if not rule.is_comparable or rule.accept_leakage:
        return
    is_short = rule.type.name in SHORT_TEXT and 0 <= rule.type.typmod - 4 <= SHORTEST
    if rule.type.name in FEW_VALUES or is_short:
        reason = (
            f"{rule.type.name} has few values, so equal cells tell which is which; drop search (or the "
            f'deterministic mode), or say why it may: accept_leakage: "..."'
        )
        yield Finding(Weight.REFUSES, "few_values", reason, rule.column)


def _wrong_type(rule: ColumnRule, column: LiveColumn, live: LiveTable, physical: str) -> Finding:
    """One statement, so that a table with rows stays as it is: the guard then fails and takes all of it back."""
    name = quoted(column.name)
    parts = []
    if column.default is not None:
        parts.append(f"ALTER COLUMN {name} DROP DEFAULT")
    using = f"convert_to({name}::text, 'UTF8')" if physical == "bytea" else f"{name}::text"
    parts.append(f"ALTER COLUMN {name} TYPE {physical} USING {using}")
    parts.append(f"ADD CONSTRAINT {guard_name(rule)} CHECK ({guard_expression(rule)})")
    ddl = f"ALTER TABLE {quoted_table(live.schema, live.name)} {', '.join(parts)}"
    reason = (
        f"is {column.type_name} in the table, not {physical}: plaintext. The statement works on a table without "
        f"values there; rows that have some must be written again through pgseal"
    )
    return Finding(Weight.REFUSES, "wrong_type", reason, column.name, (ddl,))


def _guard(rule: ColumnRule, live: LiveTable) -> Iterator[Finding]:
    table, name, column = quoted_table(live.schema, live.name), guard_name(rule), rule.column
    add = f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({guard_expression(rule)}) NOT VALID"
    validate = f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}"
    drop = f"ALTER TABLE {table} DROP CONSTRAINT {name}"
    found = next((c for c in live.constraints if c.name == name and c.kind == "c"), None)
    if found is None:
        reason = "has no guard: a writer that goes round pgseal could store plaintext"
        yield Finding(Weight.REFUSES, "guard_missing", reason, column, (add, validate))
    elif not says_the_same(found.definition, guard_expression(rule)):
        reason = "its guard is not the one this rule demands"
        yield Finding(Weight.REFUSES, "guard_differs", reason, column, (drop, add, validate))
    elif not found.is_inherited_by_children:
        reason = "its guard is NO INHERIT: partitions and children go without"
        yield Finding(Weight.REFUSES, "guard_not_inherited", reason, column, (drop, add, validate))
    elif not found.is_validated:
        reason = "its guard is not validated: rows from before it may hold plaintext"
        yield Finding(Weight.REFUSES, "guard_not_validated", reason, column, (validate,))


def says_the_same(definition: str, expression: str) -> bool:
    """True where PostgreSQL's text of a constraint and our spelling are one tree: brackets and blanks aside.
    What is more than an expression (NOT ENFORCED) is not the same."""
    inner = definition.removeprefix("CHECK").removesuffix("NO INHERIT").removesuffix("NOT VALID").strip()
    inner = inner.removesuffix("NO INHERIT").removesuffix("NOT VALID")
    try:
        return bool(_tree(inner) == _tree(expression))
    except pglast.parser.ParseError:
        return False


def _tree(expression: str) -> Any:
    parsed = json.loads(pglast.parser.parse_sql_json(f"SELECT {expression}"))
    return _without_locations(parsed["stmts"][0]["stmt"])


def _without_locations(node: Any) -> Any:
    if isinstance(node, dict):
        if (inner := _text_constant(node)) is not None:
            node = inner
        return {key: _without_locations(value) for key, value in node.items() if key != "location"}
    if isinstance(node, list):
        return [_without_locations(item) for item in node]
    return node


def _text_constant(node: dict[str, Any]) -> dict[str, Any] | None:
    """PostgreSQL shows `'pgs1'` as `'pgs1'::text`: the constant alone."""
    cast = node.get("TypeCast", {})
    names = [name.get("String", {}).get("sval") for name in cast.get("typeName", {}).get("names", [])]
    argument: dict[str, Any] = cast.get("arg", {})
    return argument if names == ["text"] and "A_Const" in argument else None


def _shape(rule: ColumnRule, column: LiveColumn, live: LiveTable) -> Iterator[Finding]:
    table, name = quoted_table(live.schema, live.name), quoted(column.name)
    if column.is_generated or column.is_identity:
        yield Finding(Weight.REFUSES, "generated", "is generated by the server, which has no keys", column.name)
    elif column.default is not None and not column.default.startswith("NULL::"):
        ddl = f"ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT"
        reason = "has a DEFAULT in the table, which the guard refuses; give the rule a `default:` instead"
        yield Finding(Weight.REFUSES, "default", reason, column.name, (ddl,))
    if not column.collation_is_exact:
        reason = "has a nondeterministic collation, under which different envelopes can be equal"
        ddl = f'ALTER TABLE {table} ALTER COLUMN {name} TYPE text COLLATE pg_catalog."C"'
        yield Finding(Weight.REFUSES, "collation", reason, column.name, (ddl,))
    if column.name in live.partition_columns:
        yield Finding(
            Weight.REFUSES, "partition_key", "is a partition key: rows would land by ciphertext", column.name
        )


# --- constraints and indexes ----------------------------------------------------------------------------


def _constraint(table: TableRule, rule: ColumnRule, live: LiveTable, found: LiveConstraint) -> Iterator[Finding]:
    if rule.column not in found.columns or found.name == guard_name(rule):
        return
    drop = f"ALTER TABLE {quoted_table(live.schema, live.name)} DROP CONSTRAINT {quoted(found.name)}"
    match found.kind:
        case "c":
            reason = f'CHECK "{found.name}" looks at ciphertext; let the application check the value'
            yield Finding(Weight.REFUSES, "check", reason, rule.column, (drop,))
        case "x":
            reason = f'EXCLUDE "{found.name}" compares ciphertext'
            yield Finding(Weight.REFUSES, "exclude", reason, rule.column, (drop,))
        case "f" if rule.mode is not Mode.DETERMINISTIC:
            where = f" of {found.from_other_table}" if found.from_other_table else ""
            reason = f'FOREIGN KEY "{found.name}"{where} compares randomised ciphertext: no row ever matches'
            yield Finding(Weight.REFUSES, "foreign_key", reason, rule.column, () if where else (drop,))
        case "p" | "u":
            yield from _unique(table, rule, live, set(found.columns), found.name, drop)


def _unique(
    table: TableRule, rule: ColumnRule, live: LiveTable, columns: set[str], name: str, drop: str
) -> Iterator[Finding]:
    if rule.mode is not Mode.DETERMINISTIC:
        reason = f'"{name}" is unique over randomised ciphertext, which never repeats: duplicates pass'
        ddl = (drop, *((token_index(table, rule, live, is_unique=True),) if rule.search else ()))
        yield Finding(Weight.REFUSES, "unique", reason, rule.column, ddl)
    elif _misses_tenant(table, rule, columns):
        yield _unique_without_tenant(table, rule, name)


def _misses_tenant(table: TableRule, rule: ColumnRule, columns: set[str]) -> bool:
    is_per_row = table.tenant.source is TenantFrom.COLUMN
    return rule.scope is Scope.TENANT and is_per_row and table.tenant.name not in columns


def _unique_without_tenant(table: TableRule, rule: ColumnRule, name: str) -> Finding:
    reason = (
        f'"{name}" is unique without the tenant column "{table.tenant.name}": values of two tenants never '
        f"compare equal. Add that column to it, or give the rule search: {{by: equality, scope: table}}"
    )
    return Finding(Weight.REFUSES, "unique_without_tenant", reason, rule.column)


def token_index(table: TableRule, rule: ColumnRule, live: LiveTable, is_unique: bool) -> str:
    """CREATE INDEX in the one spelling that rewritten statements use."""
    columns = [f"({token_expression(rule)})"]
    if table.tenant.source is TenantFrom.COLUMN and rule.scope is Scope.TENANT:
        columns.insert(0, quoted(table.tenant.name))
    name = quoted(f"{live.name}_{rule.column}_token"[:63])
    unique = "UNIQUE " if is_unique else ""
    return f"CREATE {unique}INDEX {name} ON {quoted_table(live.schema, live.name)} ({', '.join(columns)})"


def _index(table: TableRule, rule: ColumnRule, live: LiveTable, found: LiveIndex) -> Iterator[Finding]:
    if found.is_constraint or rule.column not in found.depends_on:
        return
    drop = f"DROP INDEX {quoted_table(live.schema, found.name)}"
    is_token = is_token_index(rule, found)
    if found.is_unique and not is_token:
        yield from _unique(table, rule, live, set(found.columns), found.name, drop)
    elif found.is_unique and _misses_tenant(table, rule, set(found.columns)):
        yield _unique_without_tenant(table, rule, found.name)
    elif not is_token and rule.mode is not Mode.DETERMINISTIC:
        reason = f'index "{found.name}" is over ciphertext and serves no query'
        yield Finding(Weight.WARNS, "useless_index", reason, rule.column, (drop,))


def is_token_index(rule: ColumnRule, found: LiveIndex) -> bool:
    """True where one of the index's keys is the token expression of this column."""
    if not rule.search:
        return False
    statement = json.loads(pglast.parser.parse_sql_json(found.definition))["stmts"][0]["stmt"]["IndexStmt"]
    keys = [_without_locations(item["IndexElem"]) for item in statement.get("indexParams", [])]
    wanted = _tree(token_expression(rule))["SelectStmt"]["targetList"][0]["ResTarget"]["val"]
    return any(_same_key(key, wanted) for key in keys)


def _same_key(key: Any, wanted: Any) -> bool:
    """COLLATE "C" over the expression is an attribute of the key in an index definition."""
    expression = key.get("expr")
    if "collation" in key and isinstance(wanted, dict) and "CollateClause" in wanted:
        wanted = wanted["CollateClause"]["arg"]
    return bool(expression == wanted)


def _search_index(rule: ColumnRule, live: LiveTable) -> Iterator[Finding]:
    if not rule.search or any(is_token_index(rule, found) for found in live.indexes):
        return
    ddl = f"CREATE INDEX ON {quoted_table(live.schema, live.name)} (({token_expression(rule)}))"
    reason = "no index serves equality; a search reads the whole table"
    yield Finding(Weight.NOTES, "no_token_index", reason, rule.column, (ddl,))


# --- what hangs on the column -----------------------------------------------------------------------------


def _dependents(rule: ColumnRule, live: LiveTable) -> Iterator[Finding]:
    for item in live.dependents:
        if item.column != rule.column:
            continue
        match item.kind:
            case "policy":
                reason = (
                    f'policy "{item.name}" compares the protected column inside the server, where an expression '
                    f"index cannot serve: it needs a token_column, which is not in this version"
                )
                ddl = f"DROP POLICY {quoted(item.name)} ON {quoted_table(live.schema, live.name)}"
                yield Finding(Weight.REFUSES, "policy", reason, rule.column, (ddl,))
            case "generated column":
                reason = f'generated column "{item.name}" is computed from ciphertext'
                ddl = f"ALTER TABLE {quoted_table(live.schema, live.name)} DROP COLUMN {quoted(item.name)}"
                yield Finding(Weight.REFUSES, "generated_from", reason, rule.column, (ddl,))
            case "materialized view":
                reason = f"{item.name} holds a copy of the cells; statements that read it are refused"
                yield Finding(Weight.WARNS, "materialized_view", reason, rule.column)
            case "trigger":
                reason = f'trigger "{item.name}" has a condition over ciphertext'
                yield Finding(Weight.WARNS, "trigger_condition", reason, rule.column)
            case "view":
                yield Finding(Weight.NOTES, "view", f"is shown by {item.name}", rule.column)
            case _:
                yield Finding(Weight.WARNS, item.kind, f"{item.kind} {item.name} sees ciphertext", rule.column)
