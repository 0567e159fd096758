"""`init` in the database: the service log-in, schema pgseal and the tables of the key store.

Safe to repeat: only what is missing is made, in one transaction. Without the rights for it nothing is done and
the SQL is handed back for someone who has them. The service log-in is no superuser and gets no table of the
application; schema pgseal grants nothing to PUBLIC. One reason to change: what an installation makes in a
database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import asyncpg

from proxy.errors import ConfigError
from proxy.service.connection import Connection
from proxy.service.findings import quoted

SCHEMA: Final = "pgseal"

STATE: Final = """
SELECT r.oid IS NOT NULL AS has_login, coalesce(r.rolsuper, false) AS is_super,
       coalesce(r.rolcanlogin, true) AS can_login,
       n.oid IS NOT NULL AS has_schema, pg_catalog.pg_get_userbyid(n.nspowner) AS schema_owner,
       pg_catalog.current_database() AS database,
       CASE WHEN n.oid IS NULL THEN false
            ELSE EXISTS (SELECT 1 FROM pg_catalog.aclexplode(n.nspacl) a WHERE a.grantee = 0) END AS is_public,
       CASE WHEN r.oid IS NULL THEN false
            ELSE pg_catalog.has_database_privilege(r.oid, d.oid, 'CONNECT') END AS can_connect,
       CASE WHEN n.oid IS NULL THEN false
            ELSE EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid) END AS has_tables
FROM (SELECT 1) one
LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $1
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $2
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
"""


@dataclass(frozen=True, slots=True)
class Preparation:
    """`statements` were run, or, when `is_done` is false, are for someone with the rights to run."""

    statements: tuple[str, ...]
    is_done: bool


async def prepare(
    admin: Connection, login: str, verifier: str | None, store_ddl: str, dry_run: bool
) -> Preparation:
    """Make what is missing. `verifier`: the log-in's new password in the server's stored form, so that no
    statement, and so no server log, ever holds the password; None keeps what the log-in has."""
    statements = await missing(admin, login, verifier, store_ddl)
    if dry_run or not statements:
        return Preparation(statements, is_done=not dry_run)
    try:
        async with admin.transaction():
            for statement in statements:
                await admin.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return Preparation(statements, is_done=False)
    return Preparation(statements, is_done=True)


async def missing(admin: Connection, login: str, verifier: str | None, store_ddl: str) -> tuple[str, ...]:
    """The statements that this database still needs, in order."""
    state = await admin.fetchrow(STATE, login, SCHEMA)
    assert state is not None
    _refuse_strange(state, login)
    role, schema = quoted(login), quoted(SCHEMA)
    found: list[str] = []
    if not state["has_login"]:
        options = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
        found.append(f"CREATE ROLE {role} {options}{_password(verifier)}")
    elif verifier is not None:
        found.append(f"ALTER ROLE {role}{_password(verifier)}")
    if not state["has_login"] or not state["can_connect"]:
        found.append(f"GRANT CONNECT ON DATABASE {quoted(state['database'])} TO {role}")
    if not state["has_schema"]:
        found.append(f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
    if not state["has_schema"] or state["is_public"]:
        found.append(f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC")
    if not state["has_tables"]:
        found += [f"SET LOCAL ROLE {role}", *_tables_of(store_ddl), "RESET ROLE"]
    return tuple(found)


def _tables_of(store_ddl: str) -> list[str]:
    """The key store's statements, one by one, less CREATE SCHEMA: the log-in owns the schema already."""
    statements = (statement.strip() for statement in store_ddl.split(";"))
    return [statement for statement in statements if statement and not statement.startswith("CREATE SCHEMA")]


def _refuse_strange(state: asyncpg.Record, login: str) -> None:
    """A log-in or schema of that name that is something else is never taken over."""
    if state["is_super"]:
        raise ConfigError(f'log-in "{login}" is a superuser', hint=f"ALTER ROLE {quoted(login)} NOSUPERUSER")
    if not state["can_login"]:
        raise ConfigError(f'role "{login}" may not log in', hint=f"ALTER ROLE {quoted(login)} LOGIN")
    if state["has_schema"] and state["schema_owner"] != login:
        raise ConfigError(
            f'schema "{SCHEMA}" exists and belongs to "{state["schema_owner"]}", not to "{login}"',
            hint="look at what is in it; pgseal does not take over a schema that it did not make",
        )


def _password(verifier: str | None) -> str:
    return "" if verifier is None else " PASSWORD '" + verifier.replace("'", "''") + "'"


def as_script(statements: tuple[str, ...]) -> str:
    """The statements as one transaction for psql."""
    body = "".join(f"{statement.rstrip().rstrip(';')};\n" for statement in statements)
    return f"BEGIN;\n{body}COMMIT;\n"
