"""The name PostgreSQL gives a column of a SELECT list that has no alias; inference needs it where an outer query
names the column. Manual: "SELECT", "SELECT List". One reason to change: PostgreSQL's rules for such names."""

from __future__ import annotations

from typing import Final

from proxy.sql.literals import names_of
from proxy.sql.spans import Node

UNNAMED: Final = "?column?"
_FIXED: Final = {
    "CoalesceExpr": "coalesce",
    "A_ArrayExpr": "array",
    "RowExpr": "row",
    "GroupingFunc": "grouping",
}
_MIN_MAX: Final = {"IS_GREATEST": "greatest", "IS_LEAST": "least"}


def output_name(node: Node) -> str:
    return strong_name(node) or _weak(node) or UNNAMED


def strong_name(node: Node) -> str:
    """A name that comes from a column, a field or a function; it also wins through a cast."""
    kind, body = next(iter(node.items()))
    match kind:
        case "ColumnRef":
            return (names_of(body["fields"]) or ("",))[-1]
        case "A_Indirection":
            fields = names_of(body["indirection"])
            return fields[-1] if fields else strong_name(body["arg"])
        case "FuncCall":
            return (names_of(body["funcname"]) or ("",))[-1]
        case "A_Expr" if body.get("kind") == "AEXPR_NULLIF":
            return "nullif"
        case "TypeCast" | "CollateClause":
            return strong_name(body["arg"])
        case "MinMaxExpr":
            return _MIN_MAX.get(body.get("op", ""), "")
        case "SubLink":
            return _sublink(body)
        case "CaseExpr":
            return strong_name(body["defresult"]) if "defresult" in body else ""
        case _:
            return _FIXED.get(kind, "")


def _weak(node: Node) -> str:
    kind, body = next(iter(node.items()))
    if kind == "TypeCast":
        return (names_of(body["typeName"].get("names", [])) or ("",))[-1]
    if kind == "CollateClause":
        return _weak(body["arg"])
    return "case" if kind == "CaseExpr" else ""


def _sublink(body: Node) -> str:
    match body.get("subLinkType"):
        case "EXISTS_SUBLINK":
            return "exists"
        case "ARRAY_SUBLINK":
            return "array"
        case "EXPR_SUBLINK":
            targets = body["subselect"].get("SelectStmt", {}).get("targetList", [])
            if targets:
                target = targets[0]["ResTarget"]
                return target.get("name") or strong_name(target["val"])
    return ""


def quoted(name: str) -> bytes:
    """A name as an identifier of SQL."""
    return b'"' + name.replace('"', '""').encode() + b'"'
