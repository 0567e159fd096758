"""Which relation a name in a statement means: search path, the session's own uncommitted DDL, pinned names.

Names of protected tables are pinned: a relation with the same bare name that resolves to anything else is
refused unless the rules list it under `not_protected`, so that no search_path, temporary table or view can
stand in for one. One reason to change: the rules of pinning.
"""

from __future__ import annotations

from proxy.errors import PgsealError, SchemaMismatch
from proxy.sql.catalog import Relation
from proxy.sql.parse import Node, relations
from proxy.sql.plan import Env
from proxy.sql.settings import own_schema
from proxy.sql.watch import OWN_SCHEMA


def resolve(env: Env, schema: str | None, name: str) -> Relation | None:
    """The relation a name means, with what this session's transaction has made or dropped."""
    own = dict(env.overlay.relations)
    path = env.search_path if "pg_temp" in env.search_path else ("pg_temp", *env.search_path)
    for candidate in path if schema is None else (schema,):
        key = (candidate, name)
        found = own[key] if key in own else env.snapshot.relations.get(key)
        if found is not None:
            return found
    return None


def relation_of(env: Env, node: Node) -> Relation | None:
    return resolve(env, node.get("schemaname"), node["relname"])


def is_protected(relation: Relation | None) -> bool:
    """True for a protected table, its partitions and children, its views, and one that rules and schema
    disagree on."""
    return relation is not None and bool(relation.sealed or relation.rule or relation.refused)


def check_names(found: list[Node], env: Env) -> None:
    """`found` are the marks of a tree. Raises where a name may not be used: schema pgseal, and pinned names
    that mean something else."""
    check_own_schema(found, env)
    ctes = {body["ctename"] for body in found if "ctename" in body}
    for node in relations(found):
        schema, name = node.get("schemaname"), node["relname"]
        if name not in env.snapshot.pinned or (schema is None and name in ctes):
            continue
        relation = relation_of(env, node)
        if relation is not None:
            check_pin(env, relation.schema, name)


def check_own_schema(found: list[Node], env: Env) -> None:
    """Raises where a relation of schema pgseal is named, with or without the schema."""
    for node in relations(found):
        relation = relation_of(env, node)
        if node.get("schemaname") == OWN_SCHEMA or (relation is not None and relation.schema == OWN_SCHEMA):
            raise own_schema()


def check_pin(env: Env, schema: str, name: str) -> None:
    """Raises where (schema, name) has a pinned name and is not the protected table itself."""
    rules = env.snapshot.rules
    if name not in env.snapshot.pinned or (schema, name) in rules.tables or (schema, name) in rules.not_protected:
        return
    raise _stand_in(schema, name)


def _stand_in(schema: str, name: str) -> PgsealError:
    return SchemaMismatch(
        f'"{schema}.{name}" has the name of a protected table and is another relation',
        hint=f"Name the protected table with its schema, or list {schema}.{name} under not_protected.",
    )


def made_in(env: Env, node: Node) -> str | None:
    """The schema in which CREATE would make a relation; None where the server will find none."""
    if node.get("relpersistence") == "t":
        return "pg_temp"
    if "schemaname" in node:
        return str(node["schemaname"])
    known = env.snapshot.schemas
    return next((schema for schema in env.search_path if not known or schema in known), None)
