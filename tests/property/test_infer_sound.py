"""Random statements over sealed columns: whatever is planned, no sealed column stands under a function or
operator that is not listed, and no constant that meets one is left in plaintext.

The checker reads the rendered SQL with PostgreSQL's parser and knows nothing of inference: it says for each
expression what can flow out of it (a cell, a token, a sealed constant, a plaintext constant, anything else) and
looks at every place where two of them meet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pglast.parser import parse_sql_json

from proxy.errors import PgsealError
from proxy.sql.plan import Plan, Planned
from proxy.sql.rewrite import render
from tests.unit.sql.plans import Outcome, plan

SEALED = {"ssn", "level"}
BUILDS = "json_build_array"
Flow = frozenset[str]

leaf = st.sampled_from(
    [
        "ssn",
        "s.ssn",
        "level",
        "name",
        "s.name",
        "'canary'",
        "'canary'::text",
        "NULL",
        "secret",
        "(s).ssn",
        "upper('canary')",
    ]
)


def values(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    return st.one_of(
        inner.map(lambda e: f"upper({e})"),
        inner.map(lambda e: f"({e})"),
        inner.map(lambda e: f"{e}::text"),
        inner.map(lambda e: f"CAST({e} AS varchar(3))"),
        inner.map(lambda e: f"min({e})"),
        inner.map(lambda e: f"lag({e}) OVER (ORDER BY id)"),
        inner.map(lambda e: f"(SELECT {e} FROM staff t LIMIT 1)"),
        inner.map(lambda e: f"(VALUES ({e}))"),
        inner.map(lambda e: f"json_build_array({e})"),
        inner.map(lambda e: f'{e} COLLATE "C"'),
        two.map(lambda p: f"{p[0]} || {p[1]}"),
        two.map(lambda p: f"COALESCE({p[0]}, {p[1]})"),
        two.map(lambda p: f"NULLIF({p[0]}, {p[1]})"),
        two.map(lambda p: f"GREATEST({p[0]}, {p[1]})"),
        two.map(lambda p: f"CASE WHEN {p[0]} = {p[1]} THEN {p[0]} ELSE {p[1]} END"),
        two.map(lambda p: f"CASE {p[0]} WHEN {p[1]} THEN {p[1]} END"),
    )


value = st.recursive(leaf, values, max_leaves=4)


def conditions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        inner.map(lambda c: f"NOT ({c})"),
        inner.map(lambda c: f"EXISTS (SELECT 1 FROM staff t WHERE {c})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]} OR {p[1]})"),
    )


compared = st.tuples(value, value).flatmap(
    lambda p: st.sampled_from(
        [
            f"{p[0]} = {p[1]}",
            f"{p[0]} <> {p[1]}",
            f"{p[0]} IN ({p[1]}, 'canary')",
            f"{p[0]} = ANY(ARRAY[{p[1]}, 'canary'])",
            f"{p[0]} = ANY('canary'::text[])",
            f"{p[0]} IS DISTINCT FROM {p[1]}",
            f"{p[0]} IN (SELECT {p[1]} FROM staff t)",
            f"({p[0]}, 1) = ({p[1]}, 1)",
            f"{p[0]} < {p[1]}",
            f"{p[0]} LIKE {p[1]}",
            f"{p[0]} IS NULL",
        ]
    )
)
condition = st.recursive(compared, conditions, max_leaves=3)
statement = st.tuples(value, value, condition).flatmap(
    lambda p: st.sampled_from(
        [
            f"SELECT {p[0]}, {p[1]} FROM staff s WHERE {p[2]}",
            f"SELECT {p[0]} FROM staff s UNION ALL SELECT {p[1]} FROM staff s WHERE {p[2]}",
            f"SELECT {p[0]} FROM staff s UNION SELECT {p[1]} FROM staff s",
            f"SELECT DISTINCT {p[0]} FROM staff s",
            f"SELECT {p[0]}, count(*) FROM staff s GROUP BY {p[0]}, {p[1]}",
            f"SELECT count(*) FROM staff s GROUP BY {p[0]} HAVING count(DISTINCT {p[1]}) > 1",
            f"SELECT id FROM staff s WHERE {p[2]} ORDER BY {p[0]}",
            f"UPDATE staff s SET ssn = {p[0]}, name = {p[1]} WHERE {p[2]}",
            f"INSERT INTO staff (ssn, level, name) SELECT {p[0]}, NULL, {p[1]} FROM staff s WHERE {p[2]}",
            f"DELETE FROM staff s WHERE {p[2]} RETURNING {p[0]}",
        ]
    )
)


# --- the checker -------------------------------------------------------------------------------------


def rendered(outcome: Outcome) -> dict[str, Any]:
    """The server's statement, each slot a sealed constant."""
    planned: Planned = outcome.planned
    assert isinstance(planned.plan, Plan)
    slots = [b"'\\x00'::bytea[]" if slot.is_array else b"'\\x00'::bytea" for slot in planned.plan.slots]
    tree: dict[str, Any] = json.loads(parse_sql_json(render(planned, slots).text.decode()))["stmts"][0]["stmt"]
    return tree


def is_token(body: dict[str, Any]) -> bool:
    if body.get("funcformat") != "COERCE_SQL_SYNTAX" or len(body.get("args", [])) != 3:
        return False
    places = [arg.get("A_Const", {}).get("ival", {}).get("ival") for arg in body["args"][1:]]
    return places == [10, 15]


def flow(node: dict[str, Any]) -> Flow:
    """What can come out of an expression."""
    kind, body = next(iter(node.items()))
    match kind:
        case "ColumnRef":
            name = body["fields"][-1].get("String", {}).get("sval", "")
            return frozenset({"cell"} if name in SEALED | {"secret"} else {"other"})
        case "A_Indirection":
            return frozenset({"cell"} if "ssn" in json.dumps(body) else {"other"})
        case "A_Const":
            return frozenset() if body.get("isnull") else frozenset({"constant"})
        case "TypeCast":
            inner = body["arg"].get("A_Const", {}).get("sval", {}).get("sval", "")
            if inner == "\\x00":
                return frozenset({"slot"})
            if body["typeName"]["names"][-1]["String"]["sval"] == "bytea":  # a cell's own type: it stays a cell
                return flow(body["arg"])
            return flow(body["arg"]) - {"cell"} | lost(body["arg"])
        case "FuncCall" if is_token(body):
            return frozenset({"token"}) if flow(body["args"][0]) == {"cell"} else frozenset({"broken"})
        case "FuncCall" if "over" in body:
            return flow(body["args"][0])
        case "FuncCall" if function(body) == BUILDS:
            within: Flow = frozenset().union(*map(flow, body["args"]))
            return frozenset({"nested"} if within & {"cell", "slot", "nested"} else {"other"}) | within & {
                "broken"
            }
        case "A_Expr" if body["kind"] == "AEXPR_NULLIF":
            return flow(body["lexpr"])
        case "CoalesceExpr":
            return frozenset().union(*map(flow, body["args"]))
        case "CaseExpr":
            parts = [flow(when["CaseWhen"]["result"]) for when in body["args"]]
            return frozenset().union(*parts, flow(body["defresult"]) if "defresult" in body else frozenset())
        case "SubLink" if body.get("subLinkType") == "EXPR_SUBLINK":
            return outputs(body["subselect"]["SelectStmt"])[0]
        case _:
            return frozenset({"other"})


def lost(node: dict[str, Any]) -> Flow:
    """A cast over a cell would show ciphertext as a value."""
    return frozenset({"broken"}) if flow(node) & {"cell", "token", "nested"} else frozenset()


def function(body: dict[str, Any]) -> str:
    return str(body["funcname"][-1]["String"]["sval"])


def outputs(body: dict[str, Any]) -> list[Flow]:
    if "valuesLists" in body:
        rows = [row["List"]["items"] for row in body["valuesLists"]]
        return [frozenset().union(*(flow(row[i]) for row in rows)) for i in range(len(rows[0]))]
    if body.get("op", "SETOP_NONE") != "SETOP_NONE":
        return [a | b for a, b in zip(outputs(body["larg"]), outputs(body["rarg"]), strict=True)]
    within = inner_columns(body)
    return [
        within.get(column_name(target["ResTarget"]["val"])) or flow(target["ResTarget"]["val"])
        for target in body["targetList"]
    ]


def column_name(node: dict[str, Any]) -> str:
    fields = node.get("ColumnRef", {}).get("fields", [{}])
    return str(fields[-1].get("String", {}).get("sval", ""))


def inner_columns(body: dict[str, Any]) -> dict[str, Flow]:
    """The columns of a subselect in FROM that renames them, by their new names."""
    found: dict[str, Flow] = {}
    for item in body.get("fromClause", []):
        inner = item.get("RangeSubselect", {})
        names = [name["String"]["sval"] for name in inner.get("alias", {}).get("colnames", [])]
        if names:
            found.update(zip(names, outputs(inner["subquery"]["SelectStmt"]), strict=True))
    return found


def check_meeting(*parts: Flow) -> None:
    """Cells and slots meet no plaintext; tokens meet only tokens and slots, documents with cells only those."""
    together: Flow = frozenset().union(*parts)
    assert "nested" not in together or together == {"nested"}
    sealed = together & {"cell", "slot", "token"}
    assert "broken" not in together
    assert not sealed or not together & {"constant", "other"}, together
    assert not {"cell", "token"} <= together, together


def walk(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, list):
        for part in node:
            yield from walk(part)
    elif isinstance(node, dict):
        for key, part in node.items():
            if key[:1].isupper() and isinstance(part, dict):
                yield key, part
            yield from walk(part)


PASSES = {"lag", BUILDS}
SHOWN = {"ResTarget", "NullTest", "CoalesceExpr", "CaseExpr", "CaseWhen", "SubLink"}


def check_parents(node: Any, parent: str = "") -> None:
    """A sealed column, or what shows one, stands only under what is listed."""
    if isinstance(node, list):
        for part in node:
            check_parents(part, parent)
    elif isinstance(node, dict):
        for key, part in node.items():
            if not key[:1].isupper() or not isinstance(part, dict):
                check_parents(part, parent)
                continue
            if key in ("ColumnRef", "A_Indirection") and flow({key: part}) == {"cell"}:
                assert parent in SHOWN | {"token", "count", "passes"}, parent
                continue
            if key == "FuncCall" and "nested" in flow({key: part}):
                assert parent in SHOWN | {"count", "passes"}, parent
            check_parents(part, role(key, part, parent))


def role(key: str, body: dict[str, Any], parent: str) -> str:
    if key == "List" and parent == "SelectStmt":
        return "ResTarget"  # a row of VALUES
    if key in ("List", "RowExpr", "String"):
        return parent
    if key != "FuncCall":
        return key
    name = function(body)
    return "token" if is_token(body) else "count" if name == "count" else "passes" if name in PASSES else key


def check(outcome: Outcome) -> None:
    tree = rendered(outcome)
    check_parents(tree)
    for kind, body in walk(tree):
        match kind:
            case "A_Expr" if body["kind"] in ("AEXPR_OP", "AEXPR_DISTINCT", "AEXPR_NULLIF"):
                pairs(body["lexpr"], body["rexpr"])
            case "A_Expr" if body["kind"] == "AEXPR_IN":
                check_meeting(flow(body["lexpr"]), *map(flow, body["rexpr"]["List"]["items"]))
            case "A_Expr" if body["kind"] == "AEXPR_OP_ANY":
                right = body["rexpr"]
                elements = right["A_ArrayExpr"]["elements"] if "A_ArrayExpr" in right else [right]
                check_meeting(flow(body["lexpr"]), *map(flow, elements))
            case "SubLink" if body.get("subLinkType") == "ANY_SUBLINK":
                check_meeting(flow(body["testexpr"]), outputs(body["subselect"]["SelectStmt"])[0])
            case "CoalesceExpr":
                check_meeting(*map(flow, body["args"]))
            case "CaseExpr":
                check_meeting(flow({kind: body}))
                if "arg" in body:
                    check_meeting(flow(body["arg"]), *(flow(when["CaseWhen"]["expr"]) for when in body["args"]))
            case "SelectStmt":
                for output in outputs(body):
                    check_meeting(output)
    check_top(tree, outcome)


def pairs(left: dict[str, Any], right: dict[str, Any]) -> None:
    if "RowExpr" in left and "RowExpr" in right:
        for a, b in zip(left["RowExpr"]["args"], right["RowExpr"]["args"], strict=True):
            check_meeting(flow(a), flow(b))
    else:
        check_meeting(flow(left), flow(right))


def check_top(tree: dict[str, Any], outcome: Outcome) -> None:
    """Results are opened exactly where cells come out; columns get what they hold."""
    kind, body = next(iter(tree.items()))
    if kind == "SelectStmt":
        check_results(outputs(body), outcome)
    elif kind == "DeleteStmt":
        check_results([flow(t["ResTarget"]["val"]) for t in body["returningClause"]["exprs"]], outcome)
    else:
        if kind == "UpdateStmt":
            ssn, name = (flow(target["ResTarget"]["val"]) for target in body["targetList"])
        else:
            ssn, _, name = outputs(body["selectStmt"]["SelectStmt"])
        assert not ssn & {"constant", "other", "token", "nested", "broken"}
        assert not name & {"cell", "slot", "token", "nested", "broken"}


def check_results(flows: list[Flow], outcome: Outcome) -> None:
    results = outcome.plan.results
    assert results is not None
    for one, result in zip(flows, results, strict=True):
        assert "token" not in one
        assert bool(one & {"cell", "slot"}) == (result.column is not None)
        assert ("nested" in one) == (result.nested is not None)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(statement)
def test_planned_statement_has_no_sealed_column_where_it_is_not_listed(sql: str) -> None:
    """Refused, or sound by an independent reading of the rendered SQL."""
    try:
        outcome = plan(sql)
    except PgsealError as refusal:
        assert refusal.sqlstate in ("PS001", "42804")
        return
    check(outcome)
