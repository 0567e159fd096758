"""DDL: what makes, changes or looks at a protected relation.

What a rule names becomes physical (`ddl_columns.py`), what touches plain columns only passes, all else over a
sealed column or a protected relation as a whole is PS006. Everything made or changed here is told to the
session as an overlay, so that it is usable in the open transaction. One reason to change: what DDL may do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from proxy.errors import PgsealError, SchemaMismatch, Unsupported
from proxy.rules import TableRule
from proxy.sql.catalog import Relation
from proxy.sql.commands import command
from proxy.sql.ddl_alter import plan_alter
from proxy.sql.ddl_columns import columns_of, constraint_refusal, looked_at, refusal, relation_with, seal_column
from proxy.sql.draft import Draft
from proxy.sql.names import check_names, check_pin, is_protected, made_in, relation_of, resolve
from proxy.sql.parse import Node, Statement, marks, relations, strings
from proxy.sql.plan import Edit, Effect, EffectKind, Env, Kind, StatementPlan

_CHANGED: Final = Effect(EffectKind.DDL)


@dataclass(frozen=True, slots=True)
class Change:
    """What one statement edits and makes."""

    edits: tuple[Edit, ...] = ()
    made: tuple[tuple[tuple[str, str], Relation | None], ...] = ()


def plan_ddl(statement: Statement, draft: Draft, span: tuple[int, int]) -> StatementPlan:
    """`span` are the statement's tokens, end exclusive. Raises PS006."""
    check_names(marks(statement.tree), draft.env)
    if statement.name == "AlterTableStmt":
        edits, made = plan_alter(statement.tree, draft, span)
        change = Change(edits, made)
    else:
        change = _PLANS.get(statement.name, _unknown)(statement.tree, draft)
    effects = (_CHANGED, *(Effect(EffectKind.OVERLAY, relation=relation) for relation in change.made))
    run = statement.tree.get("query", {}).get("ExecuteStmt")
    if run is not None:  # CREATE TABLE AS EXECUTE
        effects = (*effects, Effect(EffectKind.EXECUTE, run["name"]))
    is_planned = bool(change.edits)
    return StatementPlan(
        Kind.PLANNED if is_planned else Kind.PASS,
        command(statement.name).tag,
        edits=change.edits,
        effects=effects,
        hides_detail=is_planned,
    )


def _unknown(tree: Node, draft: Draft) -> Change:
    node = _protected(tree, draft.env)
    if node is not None:
        raise _whole(node, "this command is not supported")
    return Change()


def _protected(tree: Node, env: Env) -> Node | None:
    return next((node for node in relations(marks(tree)) if is_protected(relation_of(env, node))), None)


def _whole(node: Node, what: str, hint: str = "Leave the protected relation out of it.") -> PgsealError:
    return SchemaMismatch(f'{what} over the protected relation "{node["relname"]}"', hint=hint)


# --- CREATE TABLE --------------------------------------------------------------------------------------


def _create_table(tree: Node, draft: Draft) -> Change:
    target = tree["relation"]
    schema = made_in(draft.env, target)
    if schema is None:
        return Change()
    key = (schema, target["relname"])
    check_pin(draft.env, *key)
    _check_ancestry(tree, draft.env)
    elements = tree.get("tableElts", [])
    _check_references(elements, draft.env)
    rule = draft.env.snapshot.rules.tables.get(key)
    is_whole = "inhRelations" not in tree and "ofTypename" not in tree
    is_whole = is_whole and all("TableLikeClause" not in item for item in elements)
    if not is_whole:
        if rule is not None:
            raise _whole(
                target, "LIKE, INHERITS, OF and PARTITION OF are not supported", "Write its columns out."
            )
        return Change()
    definitions = [item["ColumnDef"] for item in elements if "ColumnDef" in item]
    made = relation_with(columns_of(definitions, rule), rule, key, kind="p" if "partspec" in tree else "r")
    edits = _seal_table(tree, draft, made, rule) if rule is not None else ()
    if tree.get("if_not_exists") and resolve(draft.env, *key) is not None:
        return Change(edits)
    return Change(edits, ((key, made),))


def _seal_table(tree: Node, draft: Draft, made: Relation, rule: TableRule) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    for item in tree.get("tableElts", []):
        definition = item.get("ColumnDef")
        if definition is not None and definition["colname"] in rule.columns:
            edits.extend(seal_column(draft, definition, rule.columns[definition["colname"]]))
            continue
        seen = looked_at(item, made)
        if seen is not None:
            raise constraint_refusal(item.get("Constraint", {}).get("contype", ""), seen.rule)
    seen = looked_at(tree.get("partspec", {}), made)
    if seen is not None:
        raise refusal(seen.rule, "PARTITION BY", "Partition by a plain column.")
    return tuple(edits)


def _check_ancestry(tree: Node, env: Env) -> None:
    parts = [tree.get("inhRelations", []), [i for i in tree.get("tableElts", []) if "TableLikeClause" in i]]
    node = _protected({"parts": parts}, env)
    if node is not None:
        raise _whole(node, "LIKE, INHERITS and PARTITION OF are not supported")


def _check_references(tree: list[Node], env: Env) -> None:
    """A foreign key may point at plain columns of a protected table only."""
    for item in tree:
        inner = [item["Constraint"]] if "Constraint" in item else []
        inner += [c["Constraint"] for c in item.get("ColumnDef", {}).get("constraints", [])]
        for constraint in inner:
            check_reference(constraint, env)


def check_reference(constraint: Node, env: Env) -> None:
    if "pktable" not in constraint:
        return
    relation = relation_of(env, constraint["pktable"])
    for name in strings(constraint.get("pk_attrs", [])):
        if relation is not None and name in relation.sealed:
            raise refusal(relation.sealed[name].rule, "REFERENCES", "Refer to a plain key column.")


# --- everything else -----------------------------------------------------------------------------------


def _derived(tree: Node, draft: Draft) -> Change:
    """CREATE VIEW, MATERIALIZED VIEW, TABLE AS: nothing is made from a protected relation."""
    made = tree.get("view") or tree["into"]["rel"]
    node = _protected(tree.get("query", {}), draft.env)
    if node is not None:
        raise _whole(
            node, "making a view or table is not supported", "Create it directly, then check its columns."
        )
    schema = made_in(draft.env, made)
    if schema is not None:
        check_pin(draft.env, schema, made["relname"])
    return Change()


def _index(tree: Node, draft: Draft) -> Change:
    relation = relation_of(draft.env, tree["relation"])
    if relation is None or not is_protected(relation):
        return Change()
    seen = looked_at(tree, relation)
    if seen is not None:
        classes = [strings(item["IndexElem"].get("opclass", []))[-1:] for item in tree.get("indexParams", [])]
        pattern = next((name[0] for name in classes if name and name[0].endswith("_pattern_ops")), None)
        what = f"an index with {pattern}" if pattern else "an index"
        raise refusal(
            seen.rule, what, "Run the CREATE INDEX that `pgseal check` prints, directly in the database."
        )
    return Change()


def _statistics(tree: Node, draft: Draft) -> Change:
    for node in relations(marks(tree)):
        relation = relation_of(draft.env, node)
        seen = looked_at(tree, relation) if relation is not None else None
        if seen is not None:
            raise refusal(seen.rule, "CREATE STATISTICS", "Leave the encrypted column out.")
    return Change()


def _policy(tree: Node, draft: Draft) -> Change:
    relation = relation_of(draft.env, tree["table"])
    seen = looked_at(tree, relation) if relation is not None else None
    if seen is not None:
        raise refusal(seen.rule, "a policy", "Write the policy over plain columns.")
    others = {key: value for key, value in tree.items() if key != "table"}
    node = _protected(others, draft.env)
    if node is not None:
        raise _whole(node, "a policy that reads is not supported")
    return Change()


def _code(tree: Node, draft: Draft) -> Change:
    """CREATE RULE and CREATE TRIGGER: code in the server that is handed cells."""
    node = _protected(tree, draft.env)
    if node is not None:
        raise _whole(node, "a rule or trigger is not supported", "Create it directly: it will see ciphertext.")
    return Change()


def _foreign_table(tree: Node, draft: Draft) -> Change:
    target = tree["base"]["relation"]
    schema = made_in(draft.env, target)
    if schema is None:
        return Change()
    check_pin(draft.env, schema, target["relname"])
    if (schema, target["relname"]) in draft.env.snapshot.rules.tables:
        raise _whole(target, "a foreign table is not supported")
    _check_ancestry(tree["base"], draft.env)
    return Change()


_TABLES: Final = frozenset({"OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE"})
_RENAMED_PARTS: Final = frozenset({"OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_RULE"})


def _rename(tree: Node, draft: Draft) -> Change:
    env = draft.env
    if tree["renameType"] == "OBJECT_SCHEMA":
        return _schema(tree.get("subname", ""), env)
    if "relation" not in tree:
        return Change()
    relation = relation_of(env, tree["relation"])
    if relation is not None and is_protected(relation):
        if tree["renameType"] not in _RENAMED_PARTS:
            raise _whole(
                tree["relation"], "RENAME is not supported", "Rename it directly and in the rules at once."
            )
        _check_renamed(tree, relation)
    elif tree["renameType"] in _TABLES:
        schema = relation.schema if relation is not None else made_in(env, tree["relation"])
        _check_becomes(env, schema, tree["newname"])
    return Change(made=_renamed(tree, relation)) if relation is not None else Change()


def _renamed(tree: Node, relation: Relation) -> tuple[tuple[tuple[str, str], Relation | None], ...]:
    key, new = (relation.schema, relation.name), tree["newname"]
    if tree["renameType"] == "OBJECT_COLUMN":
        columns = tuple(replace(c, name=new) if c.name == tree["subname"] else c for c in relation.columns)
        return ((key, replace(relation, columns=columns)),)
    if tree["renameType"] in _TABLES:
        return ((key, None), ((relation.schema, new), replace(relation, name=new)))
    return ()


def _check_renamed(tree: Node, relation: Relation) -> None:
    rule, name = relation.rule, tree.get("subname", "")
    if tree["renameType"] == "OBJECT_TABCONSTRAINT":
        if name.startswith("pgseal_"):
            raise SchemaMismatch(f'"{name}" is a guard of pgseal', hint="Leave it as it is.")
        return
    if tree["renameType"] != "OBJECT_COLUMN":
        return
    ruled = set(rule.columns) | {rule.tenant.name} if rule is not None else set(relation.sealed)
    bound = {column for one in relation.sealed.values() for column in one.rule.bind}
    if {name, tree["newname"]} & (ruled | bound):
        what = f'renaming "{name}" of the protected relation "{relation.name}" is not supported'
        raise SchemaMismatch(what, hint="Rename it directly and in the rules at once.")


def _check_becomes(env: Env, schema: str | None, name: str) -> None:
    """Nothing takes the name of a protected table: it has no guards."""
    if schema is None:
        return
    check_pin(env, schema, name)
    if (schema, name) in env.snapshot.rules.tables:
        what = f'"{schema}.{name}" is a protected table, and what is renamed to it has no guards'
        raise SchemaMismatch(what, hint="CREATE TABLE it through pgseal, and let the application copy the rows.")


def _schema(name: str, env: Env) -> Change:
    if any(schema == name for schema, _ in env.snapshot.rules.tables):
        raise SchemaMismatch(
            f'schema "{name}" holds protected tables', hint="Rename it directly and in the rules at once."
        )
    return Change()


def _set_schema(tree: Node, draft: Draft) -> Change:
    if "relation" not in tree:
        return Change()
    relation = relation_of(draft.env, tree["relation"])
    if is_protected(relation):
        raise _whole(
            tree["relation"], "SET SCHEMA is not supported", "Move it directly and in the rules at once."
        )
    _check_becomes(draft.env, tree["newschema"], tree["relation"]["relname"])
    return Change()


def _drop(tree: Node, draft: Draft) -> Change:
    if tree["removeType"] not in _TABLES:
        return Change()
    made: list[tuple[tuple[str, str], Relation | None]] = []
    for item in tree["objects"]:
        names = strings(item.get("List", {}).get("items", []))
        schema = names[-2] if len(names) > 1 else None
        if schema == "pgseal":
            raise Unsupported('schema "pgseal" belongs to pgseal', hint="Use the pgseal commands.")
        relation = resolve(draft.env, schema, names[-1]) if names else None
        if relation is not None:
            made.append(((relation.schema, relation.name), None))
    return Change(made=tuple(made))


_PLANS: Final[dict[str, Callable[[Node, Draft], Change]]] = {
    "CreateStmt": _create_table,
    "CreateForeignTableStmt": _foreign_table,
    "CreateTableAsStmt": _derived,
    "ViewStmt": _derived,
    "IndexStmt": _index,
    "CreateStatsStmt": _statistics,
    "CreatePolicyStmt": _policy,
    "AlterPolicyStmt": _policy,
    "RuleStmt": _code,
    "CreateTrigStmt": _code,
    "RenameStmt": _rename,
    "AlterObjectSchemaStmt": _set_schema,
    "DropStmt": _drop,
}
