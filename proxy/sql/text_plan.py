"""Planning one text from scratch: lex, parse, and decide statement by statement.

Each statement is a command (`commands.py`, `ddl.py`) or goes to inference. What fails anywhere refuses the
whole text, since the server would run the statements before it. Statements of one text see the DDL before
them; where a SET or the end of a transaction before them could change what a name means, they are refused.
One reason to change: the order in which a text is judged.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Final

from proxy.errors import PgsealError, ProgramLimitExceeded, SchemaMismatch, Unsupported
from proxy.rules import Read, Write
from proxy.sql.commands import DML, Watched, command, plan_command, refuse, tag
from proxy.sql.copying import copy_of_query, plan_copy, reads_file
from proxy.sql.ddl import plan_ddl
from proxy.sql.draft import Draft
from proxy.sql.infer import finish_params, plan_statement
from proxy.sql.lexer import Kind as Token
from proxy.sql.lexer import LexError, Tokens, lex
from proxy.sql.names import check_names, check_own_schema, is_protected, relation_of
from proxy.sql.params import check_no_parameters
from proxy.sql.parse import Node, Statement, bodies, calls, marks, parse, relations, strings, too_deep
from proxy.sql.plan import Effect, EffectKind, Env, Kind, Overlay, Plan, StatementPlan
from proxy.sql.settings import own_schema, set_config_effects, sets_tracked, unclear
from proxy.sql.template import Template, template
from proxy.sql.watch import OWN_SCHEMA, RUNNERS, SEED, SETTINGS_VIEW, Watch, begins_plainly
from proxy.sql.wrapped import WRAPPERS, plan_wrapped

PASS: Final = Plan(())
MAX_TOKENS: Final = 500_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan, and what a cache must know: the tokens and constants it refers to, and the numbers of the
    constants whose value it depends on. `template.key` None: it serves this text alone."""

    plan: Plan
    tokens: Tokens
    template: Template
    pinned: frozenset[int] = frozenset()


_NOTHING: Final = Tokens((), (), ())
_NO_TEMPLATE: Final = Template(None, (), {})
_PASSED: Final = Outcome(PASS, _NOTHING, _NO_TEMPLATE)


def refused(error: PgsealError) -> Outcome:
    return Outcome(Plan((), refusal=error), _NOTHING, _NO_TEMPLATE)


@dataclass(frozen=True, slots=True)
class Ask:
    """`param_oids` None: the simple protocol."""

    env: Env
    param_oids: tuple[int, ...] | None
    watch: Watch


@dataclass(frozen=True, slots=True)
class Begun:
    """A text that needs a plan: its tokens and its template."""

    tokens: Tokens
    template: Template


def begin(text: bytes, ask: Ask) -> Outcome | Begun:
    """Lex a text that the cheap test has not let pass. Never raises for bad SQL."""
    try:
        if not ask.env.standard_conforming_strings and b"\\" in text:
            return _with_backslashes(text, ask)
        tokens = lex(text)
    except LexError:
        return _unlexed(text, ask.watch)
    except PgsealError as error:
        return refused(error)
    return Begun(tokens, template(text, tokens))


def finish(text: bytes, begun: Begun, ask: Ask) -> Outcome:
    """Look at the names, parse and plan. Never raises for bad SQL."""
    tokens = begun.tokens
    names = ask.watch.names(text, tokens)
    if not names and begins_plainly(text, tokens):
        return _PASSED
    if names and len(tokens) > MAX_TOKENS:
        return refused(
            ProgramLimitExceeded(
                f"a statement over something protected has more than {MAX_TOKENS} words and signs",
                hint="Send fewer rows in one statement.",
            )
        )
    try:
        return _planned(text, begun, ask)
    except PgsealError as error:
        return refused(error)
    except RecursionError:  # inference goes deeper than the tree it was given
        return refused(too_deep())


def outcome_of(text: bytes, ask: Ask) -> Outcome:
    """Both steps."""
    begun = begin(text, ask)
    return begun if isinstance(begun, Outcome) else finish(text, begun, ask)


def _unlexed(text: bytes, watch: Watch) -> Outcome:
    """No token, no statement: the server says what is wrong. Its lexer may be of another version, so that
    only a text in which nothing watched can stand is the server's to judge."""
    if watch.may_name(text):
        return refused(
            Unsupported(
                "the statement cannot be cut into tokens as PostgreSQL 18 would",
                hint="Correct its quotes and comments.",
            )
        )
    return _PASSED


def _with_backslashes(text: bytes, ask: Ask) -> Outcome:
    """standard_conforming_strings = off and a backslash: nothing watched may stand anywhere. Commands are
    understood with their strings written E'..', which means the same."""
    if ask.watch.may_name(text):
        return refused(
            Unsupported(
                "a statement that names something protected is sent with standard_conforming_strings = off",
                hint="SET standard_conforming_strings = on.",
            )
        )
    tokens = lex(text, standard_strings=False)
    if begins_plainly(text, tokens):
        return _PASSED
    marked = b"".join(_marked(text, tokens))
    plan = _planned(marked, Begun(lex(marked), _NO_TEMPLATE), ask).plan
    return Outcome(plan, _NOTHING, _NO_TEMPLATE)


def _marked(text: bytes, tokens: Tokens) -> list[bytes]:
    parts = []
    behind = 0
    for ordinal, start in enumerate(tokens.starts):
        parts.append(text[behind:start])
        if tokens.kinds[ordinal] == Token.STRING:
            parts.append(b" E")
        behind = tokens.ends[ordinal]
        parts.append(text[start:behind])
    return parts


def _planned(text: bytes, begun: Begun, ask: Ask) -> Outcome:
    """Raises PgsealError where the text is refused."""
    tokens, lifted = begun.tokens, begun.template
    draft = Draft(text, tokens, ask.env, ask.param_oids is not None, ask.param_oids or (), lifted.lifted)
    try:
        statements = parse(text)
    except PgsealError:
        if not ask.watch.may_name(text):
            return _PASSED  # a syntax error, or too deep: the server's to say
        raise
    if draft.is_extended and len(statements) > 1:  # 42601 on every server, which would write the text to its log
        if not ask.watch.names(text, tokens):
            return _PASSED
        raise Unsupported(
            "several statements in one Parse name something protected", hint="Parse each by itself."
        )
    plans = _statements(statements, draft, ask.watch)
    if draft.questions and (len(statements) > 1 or statements[0].name not in DML):
        raise Unsupported(
            "a value for an encrypted column is asked of the server before a statement that stands alone",
            hint="Send that INSERT or UPDATE by itself, or give the value as a literal or parameter.",
        )
    if all(plan.kind is Kind.PASS for plan in plans):
        plan = Plan(plans)
    elif draft.is_extended:
        server_params, client_params = finish_params(draft)
        plan = Plan(plans, tuple(draft.slots), server_params, client_params, questions=tuple(draft.questions))
    else:
        plan = Plan(plans, tuple(draft.slots), questions=tuple(draft.questions))
    is_shared = all(statement.name in DML for statement in statements) and not draft.is_single
    return Outcome(plan, tokens, lifted if is_shared else replace(lifted, key=None), frozenset(draft.pinned))


_SHIFTS: Final = frozenset(
    {
        EffectKind.COMMIT,
        EffectKind.ROLLBACK,
        EffectKind.ROLLBACK_TO,
        EffectKind.RESET,
        EffectKind.SET_ROLE,
        EffectKind.SET_SESSION_AUTHORIZATION,
    }
)


# What it means is known only from the server's report, which comes behind the whole text; and the search path.
_SHIFTING_SETTINGS: Final = frozenset(
    {"search_path", "client_encoding", "names", "datestyle", "intervalstyle", "timezone"}
)


def _is_shift(effect: Effect) -> bool:
    return effect.kind in _SHIFTS or (effect.kind is EffectKind.SET and effect.name in _SHIFTING_SETTINGS)


def _statements(statements: tuple[Statement, ...], draft: Draft, watch: Watch) -> tuple[StatementPlan, ...]:
    plans: list[StatementPlan] = []
    is_shifted = False
    for statement in statements:
        plan, names = _statement(statement, draft, watch)
        if is_shifted and names - _ALWAYS:
            raise Unsupported(
                "a statement over something protected follows a SET or the end of a transaction in one Query",
                hint="Send it in a Query of its own.",
            )
        plans.append(plan)
        is_shifted = is_shifted or any(_is_shift(effect) for effect in plan.effects)
        made = tuple(effect.relation for effect in plan.effects if effect.relation is not None)
        if made:
            overlay = Overlay((*draft.env.overlay.relations, *made))
            draft.env = replace(draft.env, overlay=overlay)
    return tuple(plans)


_ALWAYS: Final = frozenset(name.encode() for name in SEED)


def _statement(statement: Statement, draft: Draft, watch: Watch) -> tuple[StatementPlan, frozenset[bytes]]:
    """The plan of one statement, and the watched names in it."""
    first = bisect_left(draft.tokens.starts, statement.start)
    last = bisect_left(draft.tokens.starts, statement.end)
    names = watch.names(draft.text, draft.tokens, first, last)
    if OWN_SCHEMA.encode() in names:
        _check_own_schema(statement, draft, (first, last))
    if _ESCAPED in names and _says(statement, OWN_SCHEMA):
        raise own_schema()
    if statement.name in DML:
        return _dml(statement, draft, names), names
    entry = command(statement.name)
    if _is_raw(draft.env):
        return plan_command(statement, draft), names
    if statement.name == "CopyStmt" and names and not reads_file(statement.tree):
        return _copy(statement, draft, names), names
    if entry.watched is Watched.DDL:
        return plan_ddl(statement, draft, (first, last)), names
    if statement.name in WRAPPERS and names:
        return plan_wrapped(statement, draft, _shown(names), lambda own, its: _dml(own, its, names)), names
    if entry.watched is Watched.REFUSED and names:
        raise refuse(statement, _shown(names))
    if statement.name in ("DoStmt", "CallStmt") and (named := _named_in_code(statement, watch)) is not None:
        raise refuse(statement, named)
    if statement.name == "DoStmt" and any(
        sets_tracked(str(body["sval"]), draft.env.snapshot.rules)
        for body in bodies(statement.tree)
        if "sval" in body
    ):
        raise unclear()
    check_names(marks(statement.tree), draft.env)
    return plan_command(statement, draft), names


_ESCAPED: Final = b'u&"'  # what `Watch.names` calls a name whose escapes only the parser undoes


def _says(statement: Statement, word: str) -> bool:
    """True where the tree holds just this word, as a name or a string."""
    return any(value == word for body in bodies(statement.tree) for value in body.values())


def _shown(names: frozenset[bytes]) -> str:
    return min(names).decode("utf-8", "replace")


def _is_raw(env: Env) -> bool:
    return env.role.read is Read.RAW and env.role.write is Write.RAW


def _named_in_code(statement: Statement, watch: Watch) -> str | None:
    """What a string of the statement names, since it may be code."""
    texts = (str(body["sval"]).encode() for body in bodies(statement.tree) if "sval" in body)
    return next((watch.word_in(text) for text in texts if watch.may_name(text)), None)


def _check_own_schema(statement: Statement, draft: Draft, span: tuple[int, int]) -> None:
    """Schema pgseal as a qualifier, or anywhere in a command, is refused; a column or alias may be called so."""
    if statement.name not in DML:
        raise own_schema()
    tokens = draft.tokens
    for ordinal in range(*span):
        if tokens.kinds[ordinal] in (Token.WORD, Token.QUOTED, Token.UNICODE_NAME):
            name = draft.token_text(ordinal).strip(b'"').lower()
            is_qualifier = ordinal + 1 < len(tokens) and draft.token_text(ordinal + 1) == b"."
            if name == OWN_SCHEMA.encode() and is_qualifier:
                raise own_schema()


# --- SELECT, INSERT, UPDATE, DELETE, MERGE ------------------------------------------------------------


def _dml(statement: Statement, draft: Draft, names: frozenset[bytes]) -> StatementPlan:
    passing = StatementPlan(Kind.PASS, tag(statement.name), is_dml=statement.name != "SelectStmt")
    if not names:
        return passing
    found = marks({statement.name: statement.tree})
    if _is_raw(draft.env):
        check_own_schema(found, draft.env)
        return replace(passing, effects=set_config_effects(statement.name, statement.tree, found, draft))
    check_names(found, draft.env)
    _check_calls(found, draft.env)
    _check_settings(statement, names)
    effects = set_config_effects(statement.name, statement.tree, found, draft)
    if not names - _ALWAYS:
        return replace(passing, effects=effects)
    _check_later(found, draft.env)
    _pin_shapes(found, draft)
    plan = plan_statement({statement.name: statement.tree}, draft)
    if plan.kind is Kind.PLANNED and not draft.is_extended:
        check_no_parameters(draft, statement.start, statement.end)
    if plan.kind is Kind.PLANNED and draft.env.snapshot.server_version < 160000:
        _check_grammar(statement, found, draft)
    return replace(plan, effects=(*plan.effects, *effects))


def _copy(statement: Statement, draft: Draft, names: frozenset[bytes]) -> StatementPlan:
    """COPY of the connection's own data that names something watched."""
    tree = statement.tree
    if "query" in tree:
        ((name, inner),) = tree["query"].items()
        return copy_of_query(statement, _dml(replace(statement, name=name, tree=inner), draft, names), draft)
    if names & _ALWAYS:
        raise refuse(statement, _shown(names & _ALWAYS))
    found = marks(tree)
    check_names(found, draft.env)
    _check_calls(found, draft.env)
    return plan_copy(statement, draft)


def _check_calls(found: list[Node], env: Env) -> None:
    for function, _ in calls(found):
        if function in env.snapshot.setting_functions:
            raise unclear()
        if function in RUNNERS:
            raise Unsupported(
                f"{function}() runs SQL that pgseal does not see.", hint="Send that SQL itself, as a statement."
            )


def _check_settings(statement: Statement, names: frozenset[bytes]) -> None:
    """UPDATE pg_settings is a SET that no plan sees, also inside WITH."""
    if SETTINGS_VIEW.encode() not in names and _ESCAPED not in names:
        return
    for body in bodies({statement.name: statement.tree}):
        target = body["UpdateStmt"]["relation"] if "UpdateStmt" in body else {}
        if target.get("relname") == SETTINGS_VIEW and target.get("schemaname", "pg_catalog") == "pg_catalog":
            raise Unsupported("UPDATE of pg_settings sets what pgseal must know", hint="Use SET.")


def _check_later(found: list[Node], env: Env) -> None:
    """What this version refuses by name before inference looks at it."""
    protected = next((node for node in relations(found) if is_protected(relation_of(env, node))), None)
    if protected is None:
        return
    if any("intoClause" in body for body in found):
        raise SchemaMismatch(
            f'INTO would make a relation from the protected "{protected["relname"]}"',
            hint="Create the table through pgseal under a rule of its own, then INSERT ... SELECT.",
        )


def _check_grammar(statement: Statement, found: list[Node], draft: Draft) -> None:
    """libpg_query reads numbers and RETURNING as version 18 does; an older server reads something else."""
    first, last = draft.token_at(statement.start), draft.token_at(statement.end - 1)
    for ordinal in range(first, last + 1):
        kind, token = draft.tokens.kinds[ordinal], draft.token_text(ordinal)
        is_odd = (kind == Token.INTEGER and not token.isdigit()) or (kind == Token.NUMERIC and b"_" in token)
        if is_odd:
            raise Unsupported(
                "the server does not know this form of a number", hint="Write it in decimal digits."
            )
    for body in found:
        returning = body.get("returningClause", {})
        if returning.get("options") or {"old", "new"} & set(_qualifiers(returning)):
            raise Unsupported("the server does not know RETURNING old or new", hint="Leave it out.")


def _qualifiers(tree: object) -> list[str]:
    paths = (strings(body["ColumnRef"].get("fields", [])) for body in bodies(tree) if "ColumnRef" in body)
    return [names[0] for names in paths if len(names) > 1]


_ORDINALS: Final = ("sortClause", "groupClause", "distinctClause")


def _pin_shapes(found: list[Node], draft: Draft) -> None:
    """Constants that are no values: ordinals, typmods, names of relations in a cast."""
    for body in found:
        for clause in _ORDINALS:
            for item in body.get(clause, ()):
                _pin(item.get("SortBy", {}).get("node", item), draft)
                for inner in item.get("GroupingSet", {}).get("content", ()):
                    _pin(inner, draft)
        type_name = body.get("typeName")
        if type_name is not None:
            for item in type_name.get("typmods", ()):
                _pin(item, draft)
            if strings(type_name.get("names", []))[-1:][0].startswith("reg"):
                _pin(body.get("arg", {}), draft)


def _pin(node: dict[str, dict[str, int]], draft: Draft) -> None:
    if "A_Const" in node:
        draft.pin(node["A_Const"].get("location", 0))
