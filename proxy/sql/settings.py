"""SET, RESET and set_config(): what a statement does to the settings that a session tracks.

"SET" in the PostgreSQL manual. A tracked setting is one on which a plan, a value's form or a tenant depends;
one that is set to what cannot be known here is refused, an untracked one passes. One reason to change: which
settings are tracked, and how their new value is read from a tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from proxy.errors import PgsealError, Unsupported
from proxy.rules import Ruleset, TenantFrom
from proxy.sql.draft import Draft
from proxy.sql.parse import Node, calls, strings
from proxy.sql.plan import Effect, EffectKind
from proxy.sql.watch import OWN_SCHEMA, SET_CONFIG, SETTINGS_VIEW
from proxy.values.constants import Const, Expr, Param

TRACKED: Final = frozenset(
    {
        "search_path",
        "role",
        "session_authorization",
        "standard_conforming_strings",
        "client_encoding",
        "datestyle",
        "intervalstyle",
        "timezone",
        "bytea_output",
        "extra_float_digits",
    }
)
_LISTS: Final = frozenset(
    {"search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"}
)
_PLAIN_NAME: Final = re.compile(r"[a-z_][a-z0-9_$]*\Z")
_SCHEMA_WORD: Final = re.compile(rf"(?<![\w$]){OWN_SCHEMA}(?![\w$])")


_SETS: Final = re.compile(r"\b(?:re)?set\s+(?:(?:local|session)\s+)?([a-z_][\w.]*)")


def sets_tracked(code: str, rules: Ruleset) -> bool:
    """Code of a function or DO block that sets the search path or a tenant, of which the server tells no one."""
    lowered = code.lower()
    names = {"search_path", *_tenant_settings(rules)}
    if SET_CONFIG in lowered and any(name in lowered for name in names):
        return True
    return not names.isdisjoint(match[1] for match in _SETS.finditer(lowered))


def _tenant_settings(rules: Ruleset) -> set[str]:
    tenants = [table.tenant for table in rules.tables.values()]
    if rules.tenant is not None:
        tenants.append(rules.tenant)
    return {tenant.name.lower() for tenant in tenants if tenant.source is TenantFrom.SETTING}


def is_tracked(name: str, rules: Ruleset) -> bool:
    return name in TRACKED or name in _tenant_settings(rules)


def set_effects(tree: Node, rules: Ruleset) -> tuple[Effect, ...]:
    """The effect of a VariableSetStmt. Raises Unsupported for a tracked setting with an unknowable value."""
    name = tree.get("name", "").lower()
    is_local = tree.get("is_local", False)
    match tree["kind"]:
        case "VAR_SET_VALUE":
            value = _flattened(name, tree.get("args", []))
            if value is None:
                return _unknowable(name, rules)
            return (_effect(name, Const(value.encode()), is_local=is_local),)
        case "VAR_SET_DEFAULT":
            return (_effect(name, None, is_local=is_local),)
        case "VAR_RESET":
            if name in ("role", "session_authorization"):
                return (_effect(name, None, is_local=False),)
            return (Effect(EffectKind.RESET, name),)
        case "VAR_RESET_ALL":
            return (Effect(EffectKind.RESET),)
        case "VAR_SET_MULTI":  # TRANSACTION, SESSION CHARACTERISTICS, TRANSACTION SNAPSHOT: none is tracked
            return ()
        case _:
            return _unknowable(name, rules)


def _unknowable(name: str, rules: Ruleset) -> tuple[Effect, ...]:
    if is_tracked(name, rules):
        raise Unsupported(
            f"the setting {name} is set to a value that pgseal cannot know beforehand",
            hint="Set it to a constant or, in set_config(), to a parameter.",
        )
    return ()


def _effect(name: str, value: Expr | None, *, is_local: bool) -> Effect:
    """SET_ROLE and SET_SESSION_AUTHORIZATION carry the role in `name` where it is a constant ("" for the
    default) and in `value` always."""
    if isinstance(value, Const) and value.text is not None:
        if name == "search_path" and _SCHEMA_WORD.search(value.text.decode()):
            raise own_schema()
        if name == "role" and value.text == b"none":
            value = None
    role = value.text.decode() if isinstance(value, Const) and value.text is not None else ""
    match name:
        case "role":
            return Effect(EffectKind.SET_ROLE, role, value, is_local)
        case "session_authorization":
            return Effect(EffectKind.SET_SESSION_AUTHORIZATION, role, value, is_local)
        case _:
            return Effect(EffectKind.SET, name, value, is_local)


def own_schema() -> PgsealError:
    return Unsupported(
        f'schema "{OWN_SCHEMA}" belongs to pgseal and no client statement may name it',
        hint="Use the pgseal commands.",
    )


def _flattened(name: str, args: list[Node]) -> str | None:
    """The values of SET as one string, as the server joins them: quoted where the setting is a list of names."""
    found = [_plain_value(arg) for arg in args]
    texts = [text for text in found if text is not None]
    if len(texts) < len(found) or not texts:
        return None
    return ", ".join(_quoted(text) if name in _LISTS else text for text in texts)


def _quoted(name: str) -> str:
    if _PLAIN_NAME.match(name):
        return name
    return '"' + name.replace('"', '""') + '"'


def _plain_value(arg: Node) -> str | None:
    constant = arg.get("A_Const")
    if constant is None:
        return None
    if "sval" in constant:
        return str(constant["sval"].get("sval", ""))
    if "ival" in constant:
        return str(constant["ival"].get("ival", 0))
    if "fval" in constant:
        return str(constant["fval"].get("fval", ""))
    return None


# --- set_config() -----------------------------------------------------------------------------------


def set_config_effects(name: str, tree: Node, found: list[Node], draft: Draft) -> tuple[Effect, ...]:
    """The effects of every set_config() in a statement, whose marks are `found`. One in the target list of a
    plain SELECT without FROM runs exactly once; of any other pgseal cannot know whether or how often it runs."""
    simple = list(_simple_calls(name, tree))
    every = [call for function, call in calls(found) if function == SET_CONFIG]
    effects: list[Effect] = []
    for call in every:
        if any(call is one for one in simple):
            effects.extend(_call_effects(call, draft))
            continue
        setting = _constant(call["args"][0], draft) if call.get("args") else None
        if setting is None:
            setting = _row_name(tree, call)
        if not isinstance(setting, Const) or setting.text is None:
            raise unclear()
        if is_tracked(setting.text.decode().lower(), draft.env.snapshot.rules):
            raise unclear()
    return tuple(effects)


def _row_name(tree: Node, call: Node) -> Const | None:
    """The setting of `SELECT set_config(name, ..) FROM pg_settings WHERE name = '..'`, with which pg_dump sets
    what older servers do not have: the constant of its WHERE."""
    targets = [item.get("ResTarget", {}).get("val", {}).get("FuncCall") for item in tree.get("targetList", [])]
    ranges = [item.get("RangeVar", {}) for item in tree.get("fromClause", [])]
    condition = tree.get("whereClause", {}).get("A_Expr", {})
    named = [*call.get("args", [])[:1], condition.get("lexpr", {})]
    if (
        not any(call is target for target in targets)
        or [item.get("relname") for item in ranges] != [SETTINGS_VIEW]
        or "alias" in ranges[0]
        or condition.get("kind") != "AEXPR_OP"
        or strings(condition["name"]) != ("=",)
        or any(arg.get("ColumnRef", {}).get("fields") != [{"String": {"sval": "name"}}] for arg in named)
    ):
        return None
    constant = condition.get("rexpr", {}).get("A_Const", {})
    return Const(str(constant["sval"].get("sval", "")).encode()) if "sval" in constant else None


def unclear() -> PgsealError:
    return Unsupported(
        "set_config() of a setting that pgseal tracks is called where its effect cannot be known beforehand",
        hint="Call it as SELECT set_config('name', value, is_local) with constants or parameters.",
    )


def _simple_calls(name: str, tree: Node) -> Iterator[Node]:
    clauses = {"fromClause", "whereClause", "havingClause", "limitCount", "limitOffset", "valuesLists", "larg"}
    if name != "SelectStmt" or clauses & tree.keys():
        return
    for target in tree.get("targetList", []):
        value = target.get("ResTarget", {}).get("val", {})
        if "FuncCall" in value:
            yield value["FuncCall"]


def _call_effects(call: Node, draft: Draft) -> tuple[Effect, ...]:
    args = call.get("args", [])
    if len(args) != 3:
        return ()  # no such function: the server says so
    setting, value, is_local = (_constant(arg, draft) for arg in args)
    name = setting.text.decode().lower() if isinstance(setting, Const) and setting.text is not None else ""
    if name and not is_tracked(name, draft.env.snapshot.rules):
        return ()
    local = _boolean(is_local.text) if isinstance(is_local, Const) else None
    local_value = is_local if isinstance(is_local, Param) else None
    if value is None or (local is None and local_value is None):
        raise unclear()
    if isinstance(value, Const) and value.text is None:
        value = None  # set_config(name, NULL) sets the default
    if isinstance(setting, Param):
        return (Effect(EffectKind.SET, "", value, bool(local), setting, local_value),)
    if not name:
        raise unclear()
    return (replace(_effect(name, value, is_local=bool(local)), local_value=local_value),)


def _boolean(text: bytes | None) -> bool | None:
    """A boolean in text or binary; None for NULL and for what is none."""
    word = b"" if text is None else text.strip().lower()
    if word in (b"t", b"true", b"on", b"yes", b"y", b"1", b"\x01"):
        return True
    return False if word in (b"f", b"false", b"off", b"no", b"n", b"0", b"\x00") else None


def bound(effect: Effect, read: Callable[[Expr], bytes | None]) -> Effect:
    """A set_config() whose name or third argument is a parameter, now that it has a value (NULL is false)."""
    if effect.name_value is None and effect.local_value is None:
        return effect
    is_local = effect.is_local if effect.local_value is None else bool(_boolean(read(effect.local_value)))
    if effect.name_value is None:
        return replace(effect, is_local=is_local, local_value=None)
    name = read(effect.name_value) or b""  # the server refuses NULL
    return _effect(name.decode("utf-8", "replace").lower(), effect.value, is_local=is_local)


def _constant(arg: Node, draft: Draft) -> Expr | None:
    """A constant or parameter, through casts to text, varchar, name or bool; constants are pinned."""
    while "TypeCast" in arg:
        if strings(arg["TypeCast"]["typeName"].get("names", []))[-1:] not in (("text",), ("varchar",), ("bool",)):
            return None
        arg = arg["TypeCast"]["arg"]
    if "ParamRef" in arg:
        return Param(arg["ParamRef"].get("number", 1) - 1)
    constant = arg.get("A_Const")
    if constant is None:
        return None
    draft.pin(constant.get("location", 0))
    return _const(constant)


def _const(constant: dict[str, Any]) -> Const | None:
    if constant.get("isnull"):
        return Const(None)
    if "boolval" in constant:
        return Const(b"true" if constant["boolval"].get("boolval") else b"false", "bool")
    text = _plain_value({"A_Const": constant})
    return None if text is None else Const(text.encode())
