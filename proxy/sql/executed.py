"""SQL EXECUTE of something planned: its arguments put into the plan of what was prepared.

The server has the prepared statement with parameters of its own (sealed ones among them), so EXECUTE is rewritten
to give it values for those: what stays plain is left as it is written, what is sealed becomes a literal cell or
token, made anew each time. An argument for a sealed parameter must be a constant expression.
Source: PostgreSQL manual, "EXECUTE". One reason to change: what an argument may be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from proxy.errors import PgsealError, SchemaMismatch, SyntaxFault, Unsupported
from proxy.sql.draft import Draft
from proxy.sql.lexer import Kind as Token
from proxy.sql.lexer import lex
from proxy.sql.literals import Literal, Literals, fits, params_of
from proxy.sql.packed import oids_of
from proxy.sql.parse import Node, Statement, parse
from proxy.sql.plan import Edit, EffectKind, Env, Planned, Slot, StatementPlan
from proxy.sql.spans import Span, Spans
from proxy.sql.substitute import Given
from proxy.sql.template import template
from proxy.sql.wrapped import constant_of
from proxy.values import registry
from proxy.values.constants import Cast, Expr

Find = Callable[[str], Planned | None]
_ENDS: Final = frozenset({EffectKind.DEALLOCATE, EffectKind.DISCARD_ALL})
_STRINGS: Final = frozenset({"text", "varchar", "bpchar"})
_NUMBERS: Final = frozenset({"int", "int2", "int4", "int8", "numeric"})


def is_executing(planned: Planned) -> bool:
    return any(effect.kind is EffectKind.EXECUTE for s in planned.plan.statements for effect in s.effects)


def expanded(planned: Planned, env: Env, find: Find) -> Planned:
    """The same text with the plan of what each EXECUTE runs. `find` gives what a name means before the text; what
    the text itself prepares comes before it. Raises where an argument cannot be sealed."""
    text = planned.text
    if not env.standard_conforming_strings and b"\\" in text:
        raise Unsupported("EXECUTE is sent with standard_conforming_strings = off", hint="Switch it on.")
    tokens = lex(text)
    draft = Draft(text, tokens, env, False, (), template(text, tokens).lifted)
    slots = list(planned.plan.slots)
    own: dict[str, Planned | None] = {}
    is_cleared = False
    plans = []
    for statement, plan in zip(parse(text), planned.plan.statements, strict=True):
        for effect in plan.effects:
            if effect.kind is EffectKind.PREPARE:
                own[effect.name] = replace(planned, plan=plan.prepares) if plan.prepares is not None else None
            elif effect.kind in _ENDS:
                is_cleared = is_cleared or not effect.name
                own = dict.fromkeys(own) if not effect.name else {**own, effect.name: None}
        name = next((effect.name for effect in plan.effects if effect.kind is EffectKind.EXECUTE), None)
        if name is not None:
            found = own[name] if name in own or is_cleared else find(name)
            if found is not None:
                plan = _Execute(statement, found, draft, Spans(draft)).plan(slots)
        plans.append(plan)
    spans = tuple(zip(tokens.starts, tokens.ends, strict=True))
    return replace(planned, plan=replace(planned.plan, statements=tuple(plans), slots=tuple(slots)), tokens=spans)


@dataclass(frozen=True, slots=True)
class _Execute:
    """One EXECUTE of what was prepared; perhaps within EXPLAIN."""

    statement: Statement
    prepared: Planned
    draft: Draft
    spans: Spans

    def plan(self, slots: list[Slot]) -> StatementPlan:
        tree = self._tree()
        name = self._name()
        arguments = self._arguments(name)
        given = Given(self._constant, lambda index: self._argument(tree["params"][index], index))
        whole = self.prepared.plan
        if len(arguments) != len(whole.client_params):
            raise SyntaxFault(f'wrong number of parameters for prepared statement "{tree["name"]}"')
        base = len(slots)
        slots.extend(map(given.slot, whole.slots))
        body = replace(given.proofs(whole.statements[0]), edits=self._edits(name, arguments, base), effects=())
        if self.statement.name == "ExplainStmt":
            return replace(body, tag="EXPLAIN", results=None)
        return body

    def _tree(self) -> Node:
        tree, inner = self.statement.tree, self.statement.tree.get("query", {})
        if "CreateTableAsStmt" in inner or self.statement.name == "CreateTableAsStmt":
            raise SchemaMismatch(
                "CREATE TABLE AS EXECUTE would make an unprotected copy of protected columns",
                hint="Create the table through pgseal under a rule of its own, then INSERT ... SELECT.",
            )
        found: Node = inner.get("ExecuteStmt", tree)
        return found

    def _name(self) -> int:
        """The token that names what is run."""
        ordinal = self.draft.token_at(self.statement.start)
        while not (self.draft.tokens.kinds[ordinal] == Token.WORD and self.spans.text(ordinal) == b"execute"):
            ordinal = self.spans.partner(ordinal) + 1 if self.spans.text(ordinal) == b"(" else ordinal + 1
        if self.spans.text(ordinal + 2) == b"uescape":
            raise Unsupported("the name in EXECUTE is written with UESCAPE", hint="Write it plainly.")
        return ordinal + 1

    def _arguments(self, name: int) -> list[Span]:
        """First and last token of each argument."""
        if self.spans.text(name + 1) != b"(":
            return []
        end = self.spans.partner(name + 1)
        found = []
        first = ordinal = name + 2
        while ordinal < end:
            if self.spans.text(ordinal) in (b"(", b"["):
                ordinal = self.spans.partner(ordinal)
            elif self.spans.text(ordinal) == b",":
                found.append((first, ordinal - 1))
                first = ordinal + 1
            ordinal += 1
        return [*found, (first, end - 1)]

    def _edits(self, name: int, arguments: list[Span], base: int) -> tuple[Edit, ...]:
        edits = []
        added: list[bytes | int] = []
        for n, param in enumerate(self.prepared.plan.server_params):
            if param.slot is None:
                continue
            if n < len(arguments):
                edits.append(Edit(*arguments[n], (base + param.slot,)))
            else:
                added += [b", ", base + param.slot]
        if added and arguments:
            last = arguments[-1][1]
            edits.append(Edit(last + 1, last, tuple(added)))
        elif added:
            edits.append(Edit(name + 1, name, (b" (", *added[1:], b")")))
        return tuple(edits)

    def _constant(self, number: int) -> Expr:
        if number >= len(self.prepared.constants):
            raise Unsupported(
                "EXECUTE of a statement with a value that the server is asked for (now(), nextval())",
                hint="Bind it with the extended protocol.",
            )
        return self.prepared.constants[number]

    def _argument(self, node: Node, index: int) -> Expr:
        """The value of a parameter that is sealed, or tells a tenant."""
        literal = Literals(self.draft, self.spans).read(node)
        if literal is None or params_of(literal.expr):
            raise self._refusal(index, "is no constant")
        expr = Given(lambda number: constant_of(self.draft, number)).expr(literal.expr)
        oid = oids_of(self.prepared.plan.client_params)[index]
        if not oid:
            return expr
        known, element = registry.type_from_oid(oid), registry.element_of_array(oid)
        logical = element or known
        if logical is None or not _is_assignable(literal, logical.name, element is not None):
            raise self._refusal(index, "is not of the parameter's type")
        return Cast(expr, logical, element is not None)

    def _refusal(self, index: int, why: str) -> PgsealError:
        """A value of an encrypted column, or of its tenant."""
        column = next((slot.column.rule.label for slot in self.prepared.plan.slots), None)
        return Unsupported(
            f"argument {index + 1} of EXECUTE is a value for {column or 'a protected table'} and {why}",
            column=column,
            hint="Write a literal, or a cast of one to the parameter's type.",
        )


def _is_assignable(literal: Literal, name: str, is_array: bool) -> bool:
    """PostgreSQL takes it for a parameter of this type."""
    logical = registry.BASE.get(name)
    if logical is None or (literal.is_array != is_array and literal.word != "unknown"):
        return False
    return fits(literal.word, logical) or (name in _STRINGS and literal.word in _NUMBERS | _STRINGS)
