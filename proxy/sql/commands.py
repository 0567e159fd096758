"""Commands other than SELECT, INSERT, UPDATE, DELETE and MERGE: what each does to the session, and which are
refused over what is protected.

A literal table says what becomes of each node: alone, and where the text names something watched. What is not
in the table passes where nothing watched is named and is refused where it is, so that a command of a later
version opens no gap. One reason to change: what a command is to pgseal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy.errors import PgsealError, Unsupported
from proxy.sql.draft import Draft
from proxy.sql.parse import Node, Statement
from proxy.sql.plan import NEW_CODE, Effect, EffectKind, Kind, StatementPlan
from proxy.sql.settings import set_effects


class Watched(Enum):
    """What a command is where it names something watched."""

    PASSES = "passes"  # it shows and stores no values
    REFUSED = "refused"
    DDL = "ddl"  # `ddl.py` decides


@dataclass(frozen=True, slots=True)
class Command:
    """`is_ddl`: the catalog may have changed. `advice` is the hint of the refusal."""

    tag: str
    watched: Watched = Watched.REFUSED
    is_ddl: bool = False
    advice: str = "Run it on a connection that does not go through pgseal, or leave the protected relation out."


def _ddl(tag: str, watched: Watched = Watched.DDL) -> Command:
    return Command(tag, watched, is_ddl=True)


_INSIDE: Final = "Only SELECT, INSERT, UPDATE, DELETE and MERGE that set nothing may stand in it."
_PASSES = Watched.PASSES

COMMANDS: Final[dict[str, Command]] = {
    # the transaction and the session
    "TransactionStmt": Command("TRANSACTION", _PASSES),
    "VariableSetStmt": Command("SET", _PASSES),
    "VariableShowStmt": Command("SHOW", _PASSES),
    "DiscardStmt": Command("DISCARD", _PASSES),
    "DeallocateStmt": Command("DEALLOCATE", _PASSES),
    "ClosePortalStmt": Command("CLOSE", _PASSES),
    "FetchStmt": Command("FETCH", _PASSES),
    "ListenStmt": Command("LISTEN", _PASSES),
    "UnlistenStmt": Command("UNLISTEN", _PASSES),
    "NotifyStmt": Command("NOTIFY", _PASSES),
    "ConstraintsSetStmt": Command("SET CONSTRAINTS", _PASSES),
    "CheckPointStmt": Command("CHECKPOINT", _PASSES),
    "LoadStmt": Command("LOAD", _PASSES),
    "AlterSystemStmt": Command("ALTER SYSTEM", _PASSES),
    # refused by name over what is protected
    "PrepareStmt": Command("PREPARE", advice=_INSIDE),
    "ExecuteStmt": Command("EXECUTE", advice="Give its arguments as literals."),
    "DeclareCursorStmt": Command("DECLARE CURSOR", advice=_INSIDE),
    "ExplainStmt": Command("EXPLAIN", advice=_INSIDE),
    "CopyStmt": Command("COPY", advice="Copy from STDIN or to STDOUT: the server's files would hold ciphertext."),
    "DoStmt": Command("DO", advice="Code in the server sees ciphertext: send the statements themselves."),
    "CallStmt": Command("CALL", advice="Code in the server sees ciphertext: send the statements themselves."),
    "RefreshMatViewStmt": Command("REFRESH MATERIALIZED VIEW"),
    # upkeep: values stay where they are
    "LockStmt": Command("LOCK TABLE", _PASSES),
    "TruncateStmt": Command("TRUNCATE TABLE", _PASSES),
    "VacuumStmt": Command("VACUUM", _PASSES),
    "ReindexStmt": Command("REINDEX", _PASSES),
    "ClusterStmt": Command("CLUSTER", _PASSES),
    "CommentStmt": Command("COMMENT", _PASSES),
    "SecLabelStmt": Command("SECURITY LABEL", _PASSES),
    "GrantStmt": Command("GRANT", _PASSES),
    "GrantRoleStmt": Command("GRANT", _PASSES),
    "AlterDefaultPrivilegesStmt": Command("ALTER DEFAULT PRIVILEGES", _PASSES),
    "AlterOwnerStmt": _ddl("ALTER", _PASSES),
    "CreateRoleStmt": Command("CREATE ROLE", _PASSES),
    "AlterRoleStmt": Command("ALTER ROLE", _PASSES),
    "AlterRoleSetStmt": Command("ALTER ROLE", _PASSES),
    "DropRoleStmt": Command("DROP ROLE", _PASSES),
    "DropOwnedStmt": _ddl("DROP OWNED", _PASSES),
    "ReassignOwnedStmt": Command("REASSIGN OWNED", _PASSES),
    "AlterDatabaseSetStmt": Command("ALTER DATABASE", _PASSES),
    "CreatePublicationStmt": _ddl("CREATE PUBLICATION", _PASSES),
    "AlterPublicationStmt": _ddl("ALTER PUBLICATION", _PASSES),
    "CreateSeqStmt": _ddl("CREATE SEQUENCE", _PASSES),
    "AlterSeqStmt": _ddl("ALTER SEQUENCE", _PASSES),
    # functions see ciphertext; they join the watch set when the catalog is read next
    "CreateFunctionStmt": _ddl("CREATE FUNCTION", _PASSES),
    "AlterFunctionStmt": _ddl("ALTER FUNCTION", _PASSES),
    # the shape of relations
    "CreateStmt": _ddl("CREATE TABLE"),
    "AlterTableStmt": _ddl("ALTER TABLE"),
    "DropStmt": _ddl("DROP"),
    "RenameStmt": _ddl("ALTER"),
    "AlterObjectSchemaStmt": _ddl("ALTER"),
    "IndexStmt": _ddl("CREATE INDEX"),
    "CreateStatsStmt": _ddl("CREATE STATISTICS"),
    "CreateTableAsStmt": _ddl("CREATE TABLE AS"),
    "ViewStmt": _ddl("CREATE VIEW"),
    "RuleStmt": _ddl("CREATE RULE"),
    "CreateTrigStmt": _ddl("CREATE TRIGGER"),
    "CreatePolicyStmt": _ddl("CREATE POLICY"),
    "AlterPolicyStmt": _ddl("ALTER POLICY"),
    "CreateForeignTableStmt": _ddl("CREATE FOREIGN TABLE"),
    "CreateSchemaStmt": _ddl("CREATE SCHEMA", Watched.REFUSED),
}
_UNKNOWN: Final = Command("OTHER", Watched.REFUSED, is_ddl=True)

DML: Final = {
    "SelectStmt": "SELECT",
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
}


def command(name: str) -> Command:
    """What becomes of a node; of one that is not known here, the cautious thing."""
    return COMMANDS.get(name, _UNKNOWN)


def tag(name: str) -> str:
    """The word metrics and audit use for a statement: one of a fixed set."""
    return DML.get(name) or command(name).tag


def plan_command(statement: Statement, draft: Draft) -> StatementPlan:
    """A command that names nothing watched, or for which that is all the same."""
    entry = command(statement.name)
    effects = _effects(statement, draft)
    if entry.is_ddl:
        effects = (*effects, Effect(EffectKind.DDL))
    return StatementPlan(
        Kind.PASS,
        entry.tag,
        effects=effects,
        is_copy_in=statement.name == "CopyStmt" and _is_copy_in(statement.tree),
    )


def refuse(statement: Statement, what: str) -> PgsealError:
    """The refusal by name of a command over something watched; `what` is the watched name."""
    entry = command(statement.name)
    kind = entry.tag if entry is not _UNKNOWN else "this command"
    return Unsupported(f'{kind} is not supported where it names "{what}"', hint=entry.advice)


def _is_copy_in(tree: Node) -> bool:
    return bool(tree.get("is_from")) and "filename" not in tree


def _effects(statement: Statement, draft: Draft) -> tuple[Effect, ...]:
    reader = _READERS.get(statement.name)
    if reader is not None:
        return reader(statement.tree)
    if statement.name == "VariableSetStmt":
        return set_effects(statement.tree, draft.env.snapshot.rules)
    return ()


_TRANSACTION: Final = {
    "TRANS_STMT_BEGIN": EffectKind.BEGIN,
    "TRANS_STMT_START": EffectKind.BEGIN,
    "TRANS_STMT_COMMIT": EffectKind.COMMIT,
    "TRANS_STMT_ROLLBACK": EffectKind.ROLLBACK,
    "TRANS_STMT_SAVEPOINT": EffectKind.SAVEPOINT,
    "TRANS_STMT_RELEASE": EffectKind.RELEASE,
    "TRANS_STMT_ROLLBACK_TO": EffectKind.ROLLBACK_TO,
}


def _transaction(tree: Node) -> tuple[Effect, ...]:
    kind = tree["kind"]
    if kind == "TRANS_STMT_PREPARE":  # settings stay as after COMMIT; what it made is seen by no one yet
        return (Effect(EffectKind.COMMIT), Effect(EffectKind.DDL))
    if kind not in _TRANSACTION:  # COMMIT PREPARED and ROLLBACK PREPARED end another transaction
        return (Effect(EffectKind.DDL),)
    return (Effect(_TRANSACTION[kind], tree.get("savepoint_name", "")),)


def _discard(tree: Node) -> tuple[Effect, ...]:
    match tree["target"]:
        case "DISCARD_ALL":
            return (Effect(EffectKind.DISCARD_ALL),)
        case "DISCARD_TEMP":
            return (Effect(EffectKind.DISCARD_TEMP),)
        case _:
            return ()


def _named(kind: EffectKind, key: str) -> Callable[[Node], tuple[Effect, ...]]:
    return lambda tree: (Effect(kind, tree.get(key, "")),)


def _explain(tree: Node) -> tuple[Effect, ...]:
    """EXPLAIN EXECUTE shows and runs what was prepared; EXPLAIN CREATE TABLE AS may make it."""
    ((name, inner),) = tree["query"].items()
    if name == "ExecuteStmt":
        return (Effect(EffectKind.EXECUTE, inner.get("name", "")),)
    if name != "CreateTableAsStmt":
        return ()
    run = inner["query"].get("ExecuteStmt")
    return (Effect(EffectKind.DDL), *(() if run is None else (Effect(EffectKind.EXECUTE, run["name"]),)))


def _fetch(tree: Node) -> tuple[Effect, ...]:
    """MOVE shows no row, so it may walk any portal."""
    return () if tree.get("ismove") else (Effect(EffectKind.FETCH, tree.get("portalname", "")),)


def _new_code(tree: Node) -> tuple[Effect, ...]:
    return (Effect(EffectKind.DDL, NEW_CODE),)


_READERS: Final[dict[str, Callable[[Node], tuple[Effect, ...]]]] = {
    "TransactionStmt": _transaction,
    "DiscardStmt": _discard,
    "PrepareStmt": _named(EffectKind.PREPARE, "name"),
    "ExecuteStmt": _named(EffectKind.EXECUTE, "name"),
    "DeallocateStmt": _named(EffectKind.DEALLOCATE, "name"),
    "FetchStmt": _fetch,
    "ClosePortalStmt": _named(EffectKind.CLOSE, "portalname"),
    "ExplainStmt": _explain,
    "DoStmt": _new_code,
    "CreateFunctionStmt": _new_code,
    "AlterFunctionStmt": _new_code,
}
