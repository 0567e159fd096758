"""ALTER TABLE over a protected relation, subcommand by subcommand.

Each subcommand is looked up in a literal table: it touches no values, or it has a rule of its own here, or it
is refused. ALTER TYPE within the rule's type changes nothing in the table: it becomes VALIDATE CONSTRAINT of the
guard, which has the same command tag and fails where the column is not guarded. One reason to change: what
ALTER TABLE may do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.errors import PgsealError, SchemaMismatch
from proxy.rules import TableRule
from proxy.sql.catalog import Column, Relation, SealedColumn
from proxy.sql.ddl_columns import (
    check_type,
    column_of,
    constraint_refusal,
    looked_at,
    refusal,
    relation_with,
    seal_column,
    tenant_column_of,
)
from proxy.sql.draft import Draft
from proxy.sql.guard import guard_name
from proxy.sql.names import is_protected, relation_of
from proxy.sql.parse import Node, marks, relations, strings
from proxy.sql.plan import Edit

Made = tuple[tuple[tuple[str, str], Relation | None], ...]

# subcommands that neither read, write nor convert values, and say nothing of one column
_PASSING: Final = frozenset(
    {
        "AT_SetStatistics",
        "AT_SetOptions",
        "AT_ResetOptions",
        "AT_SetStorage",
        "AT_SetCompression",
        "AT_SetNotNull",
        "AT_DropNotNull",
        "AT_ValidateConstraint",
        "AT_AlterConstraint",
        "AT_AddIndexConstraint",
        "AT_ChangeOwner",
        "AT_ClusterOn",
        "AT_DropCluster",
        "AT_SetLogged",
        "AT_SetUnLogged",
        "AT_SetAccessMethod",
        "AT_SetTableSpace",
        "AT_SetRelOptions",
        "AT_ResetRelOptions",
        "AT_ReplaceRelOptions",
        "AT_EnableTrig",
        "AT_EnableAlwaysTrig",
        "AT_EnableReplicaTrig",
        "AT_DisableTrig",
        "AT_EnableTrigAll",
        "AT_DisableTrigAll",
        "AT_EnableTrigUser",
        "AT_DisableTrigUser",
        "AT_ReplicaIdentity",
        "AT_EnableRowSecurity",
        "AT_DisableRowSecurity",
        "AT_ForceRowSecurity",
        "AT_NoForceRowSecurity",
    }
)


@dataclass(slots=True)
class _Alter:
    """One ALTER TABLE: the columns as they will be, the edits so far, the tokens of each subcommand."""

    draft: Draft
    relation: Relation
    columns: dict[str, Column]
    spans: list[tuple[int, int]]
    edits: list[Edit] = field(default_factory=list)

    @property
    def rule(self) -> TableRule | None:
        return self.relation.rule


def plan_alter(tree: Node, draft: Draft, span: tuple[int, int]) -> tuple[tuple[Edit, ...], Made]:
    """The edits, and the relation as it is afterwards. Raises PS006."""
    relation = relation_of(draft.env, tree["relation"])
    for command in tree.get("cmds", []):
        _check_others(command["AlterTableCmd"], draft, relation)
    if relation is None or tree.get("objtype") not in ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_FOREIGN_TABLE"):
        return (), ()
    alter = _Alter(
        draft, relation, {column.name: column for column in relation.columns}, _split(tree, draft, span)
    )
    if len(alter.spans) != len(tree["cmds"]):
        if is_protected(relation):
            raise SchemaMismatch(
                f'ALTER TABLE over the protected relation "{relation.name}" could not be read',
                hint="Send each subcommand in a statement of its own.",
            )
        return (), ()
    for number, command in enumerate(tree["cmds"]):
        _subcommand(alter, command["AlterTableCmd"], alter.spans[number])
    return tuple(alter.edits), _made(alter)


def _made(alter: _Alter) -> Made:
    relation, columns = alter.relation, tuple(alter.columns.values())
    if columns == relation.columns:
        return ()
    key = (relation.schema, relation.name)
    if relation.rule is not None:
        made = relation_with(columns, relation.rule, key, relation.oid, relation.kind)
        kept = {name: sealed for name, sealed in relation.sealed.items() if name in alter.columns}
        made = replace(
            made, sealed={**made.sealed, **kept}, tenant_column=tenant_column_of(columns, relation.rule)
        )
        return ((key, replace(made, refused=relation.refused, unique_columns=relation.unique_columns)),)
    return ((key, replace(relation, columns=columns)),)


def _split(tree: Node, draft: Draft, span: tuple[int, int]) -> list[tuple[int, int]]:
    """The tokens of each subcommand: they stand behind the relation's name, between commas outside brackets."""
    name = draft.token_at(tree["relation"]["location"])
    while draft.token_text(name + 1) == b".":
        name += 2
    if draft.token_text(name + 1) in (b"*", b")"):
        name += 1
    found, depth, first = [], 0, name + 1
    for ordinal in range(first, span[1]):
        token = draft.token_text(ordinal)
        depth += (token in (b"(", b"[")) - (token in (b")", b"]"))
        if token == b"," and depth == 0:
            found.append((first, ordinal - 1))
            first = ordinal + 1
    return [*found, (first, span[1] - 1)]


def _check_others(command: Node, draft: Draft, relation: Relation | None) -> None:
    """Other relations that a subcommand names: foreign keys to plain columns are fine, kinship is not."""
    definition = command.get("def", {})
    constraints = [definition["Constraint"]] if "Constraint" in definition else []
    constraints += [item["Constraint"] for item in definition.get("ColumnDef", {}).get("constraints", [])]
    for constraint in constraints:
        if "pktable" in constraint:
            _check_target(constraint, draft)
    if command["subtype"] in _KINSHIP:
        nodes = list(relations(marks(definition)))
        if is_protected(relation) or any(is_protected(relation_of(draft.env, node)) for node in nodes):
            raise SchemaMismatch(
                "inheritance and partitions of a protected relation cannot be changed",
                hint="Change them directly, then run `pgseal check`.",
            )


_KINSHIP: Final = frozenset(
    {
        "AT_AddInherit",
        "AT_DropInherit",
        "AT_AttachPartition",
        "AT_DetachPartition",
        "AT_DetachPartitionFinalize",
        "AT_AddOf",
        "AT_DropOf",
    }
)


def _check_target(constraint: Node, draft: Draft) -> None:
    target = relation_of(draft.env, constraint["pktable"])
    for name in strings(constraint.get("pk_attrs", [])):
        if target is not None and name in target.sealed:
            raise refusal(target.sealed[name].rule, "REFERENCES", "Refer to a plain key column.")


def _subcommand(alter: _Alter, command: Node, span: tuple[int, int]) -> None:
    kind = command["subtype"]
    handler = _HANDLERS.get(kind)
    if handler is not None:
        handler(alter, command, span)
    elif kind not in _PASSING and is_protected(alter.relation):
        sealed = alter.relation.sealed.get(command.get("name", ""))
        if sealed is not None:
            raise _unsupported(sealed)
        raise SchemaMismatch(
            f'this ALTER TABLE over the protected relation "{alter.relation.name}" is not supported',
            hint="Run it directly, then run `pgseal check`.",
        )


def _unsupported(sealed: SealedColumn) -> PgsealError:
    return refusal(sealed.rule, "this ALTER COLUMN", "Run it directly, then run `pgseal check`.")


def _add_column(alter: _Alter, command: Node, _: tuple[int, int]) -> None:
    definition = command["def"]["ColumnDef"]
    name = definition["colname"]
    is_there = name in alter.columns  # IF NOT EXISTS leaves it as it is, else the server fails
    ruled = alter.rule.columns.get(name) if alter.rule is not None else None
    if ruled is not None:
        alter.edits.extend(seal_column(alter.draft, definition, ruled))
    else:
        seen = looked_at({"constraints": definition.get("constraints", [])}, alter.relation)
        if seen is not None:
            raise refusal(seen.rule, "a constraint", "Leave the encrypted column out of it.")
    if not is_there:
        attnum = max((column.attnum for column in alter.columns.values()), default=0) + 1
        alter.columns[name] = column_of(definition, attnum, alter.rule)


def _drop_column(alter: _Alter, command: Node, _: tuple[int, int]) -> None:
    name = command["name"]
    _check_tenant(alter, name, "Dropping")
    alter.columns.pop(name, None)


def _check_tenant(alter: _Alter, name: str, what: str) -> None:
    bound = {column for one in alter.relation.sealed.values() for column in one.rule.bind}
    if alter.relation.sealed and (name == alter.relation.tenant_column or name in bound):
        raise SchemaMismatch(
            f'{what} "{name}" of "{alter.relation.name}" is not supported: cells are bound to its values',
            hint="Migrate the encrypted columns first.",
        )


def _alter_type(alter: _Alter, command: Node, span: tuple[int, int]) -> None:
    sealed = alter.relation.sealed.get(command["name"])
    definition = command["def"]["ColumnDef"]
    if sealed is None:
        _check_tenant(alter, command["name"], "ALTER TYPE of")
        seen = looked_at({"using": definition.get("raw_default", {})}, alter.relation)
        if seen is not None:
            raise refusal(seen.rule, "USING", "Leave the encrypted column out of it.")
        column = alter.columns.get(command["name"])
        if column is not None:
            changed = column_of({**definition, "colname": column.name}, column.attnum, None)
            alter.columns[column.name] = replace(column, type_oid=changed.type_oid, typmod=changed.typmod)
        return
    check_type(sealed.rule, definition["typeName"])
    if "collClause" in definition:
        raise refusal(sealed.rule, "COLLATE", "Leave it out.")
    using = definition.get("raw_default", {"ColumnRef": {"fields": [{"String": {"sval": command["name"]}}]}})
    while "TypeCast" in using:
        check_type(sealed.rule, using["TypeCast"]["typeName"])
        using = using["TypeCast"]["arg"]
    if strings(using.get("ColumnRef", {}).get("fields", [])) != (command["name"],):
        raise refusal(sealed.rule, "ALTER TYPE with USING", "Leave USING out.")
    if alter.relation.rule is None:
        raise _unsupported(sealed)
    guard = f'VALIDATE CONSTRAINT "{guard_name(sealed.rule)}"'.encode()
    alter.edits.append(Edit(*span, (guard,)))


def _default(alter: _Alter, command: Node, _: tuple[int, int]) -> None:
    sealed = alter.relation.sealed.get(command["name"])
    if sealed is not None and "def" in command:
        raise refusal(sealed.rule, "SET DEFAULT", "Give the rule a `default:` instead.")
    column = alter.columns.get(command["name"])
    if column is not None and sealed is None:
        alter.columns[column.name] = replace(column, has_default="def" in command)


def _add_constraint(alter: _Alter, command: Node, _: tuple[int, int]) -> None:
    constraint = command["def"]["Constraint"]
    seen = looked_at(constraint, alter.relation)
    if seen is None or constraint["contype"] == "CONSTR_NOTNULL":
        return
    raise constraint_refusal(constraint["contype"], seen.rule)


def _drop_constraint(alter: _Alter, command: Node, _: tuple[int, int]) -> None:
    guards = {guard_name(sealed.rule) for sealed in alter.relation.sealed.values()}
    if command.get("name") in guards:
        raise SchemaMismatch(
            f'"{command["name"]}" guards an encrypted column of "{alter.relation.name}"',
            hint="Take the column out of the rules first, after migrating it.",
        )


_HANDLERS: Final[dict[str, Callable[[_Alter, Node, tuple[int, int]], None]]] = {
    "AT_AddColumn": _add_column,
    "AT_DropColumn": _drop_column,
    "AT_AlterColumnType": _alter_type,
    "AT_ColumnDefault": _default,
    "AT_AddConstraint": _add_constraint,
    "AT_DropConstraint": _drop_constraint,
}
