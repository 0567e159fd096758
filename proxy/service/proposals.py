"""Proposed rules for a live schema: which columns look personal by name and type, written as YAML to be edited.

A proposal protects nothing by itself; `check` says what each table still needs. Only pg_catalog is read.
One reason to change: which names are recognised and what is proposed for them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.service.connection import Connection

# format_type's words -> the rules' words; what is not here cannot be protected yet
TYPES: Final = {
    "text": "text",
    "character varying": "varchar",
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "numeric": "numeric",
    "double precision": "float8",
    "boolean": "bool",
    "date": "date",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "uuid": "uuid",
    "json": "json",
    "jsonb": "jsonb",
    "bytea": "bytea",
}

# what a name says about a column: (words of the name, options of the proposed rule); the first match counts
SIGNS: Final[tuple[tuple[str, str], ...]] = (
    (
        r"ssn|social_security|social_security_number|sin|nino|tax_id|national_id|passport|passport_number",
        "search",
    ),
    (r"iban|account_number|card_number|pan|credit_card", "search"),
    (r"email|e_mail|mail|email_address", "email"),
    (r"dob|birth_date|date_of_birth|birthday|birthdate|born_on", ""),
    (r"phone|phone_number|mobile|telephone|fax", ""),
    (r"first_name|last_name|full_name|surname|given_name|family_name|maiden_name", ""),
    (r"address|street|address_line_?[0-9]|postal_address|home_address", ""),
    (r"diagnosis|diagnoses|allergies|medication|prescription|symptoms|medical_record_number|mrn", "health"),
    (r"notes|note|remarks|comments|medical_notes|anamnesis", "notes"),
    (r"salary|income|wage", ""),
)
OPTIONS: Final = {
    "": "",
    "search": ", search: equality",
    "email": ", search: equality",
    "health": ", key_type: PHI_DATA",
    "notes": ", pad: 64",
}
UNIQUE: Final = ", search: {by: equality, scope: table}"
TENANT_COLUMNS: Final = (
    "tenant_id",
    "hospital_id",
    "organisation_id",
    "organization_id",
    "org_id",
    "company_id",
    "account_id",
    "customer_id",
    "clinic_id",
    "practice_id",
)
TEXTUAL: Final = frozenset({"text", "varchar"})

COLUMNS: Final = """
SELECT n.nspname AS schema, c.relname AS table, a.attname AS column,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner,
       EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique
               AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) AS is_unique
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attgenerated = '' AND a.attidentity = ''
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgseal', 'pgseal_catalog')
  AND n.nspname !~ '^pg_(toast|temp)'
ORDER BY 1, 2, a.attnum
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One column of a live table; `owner` is the table's owner."""

    schema: str
    table: str
    column: str
    type: str
    owner: str = ""
    is_unique: bool = False


async def columns(connection: Connection) -> tuple[Candidate, ...]:
    """Every column of every table of the database that could be protected."""
    rows = await connection.fetch(COLUMNS)
    return tuple(Candidate(*(row[key] for key in row.keys())) for row in rows)  # noqa: SIM118


def rule_type(live_type: str) -> str | None:
    """`character varying(254)` -> `varchar(254)`; None where the type cannot be protected."""
    match = re.fullmatch(r"([a-z ]+?)(\([0-9, ]+\))?( with(?:out)? time zone)?", live_type)
    if match is None:
        return None
    name = TYPES.get(f"{match[1]}{match[3] or ''}")
    return f"{name}{(match[2] or '').replace(' ', '')}" if name else None


def sign_of(column: str) -> str | None:
    """The kind of option a column's name calls for, or None: nothing personal about the name."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()
    for words, kind in SIGNS:
        if re.fullmatch(rf"(?:.*_)?(?:{words})(?:_[0-9])?", name):
            return kind
    return None


def propose(database: str, live: Sequence[Candidate], app_login: str | None = None) -> str | None:
    """The text of rules/<database>.yaml; None where no column looks personal."""
    by_table: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in live:
        by_table.setdefault((candidate.schema, candidate.table), []).append(candidate)
    tables = [text for key, found in by_table.items() if (text := _table(key, found))]
    if not tables:
        return None
    login = app_login or _usual_owner(live)
    return HEAD.format(database=_scalar(database)) + "".join(tables) + _roles(login)


HEAD: Final = """\
# yaml-language-server: $schema=./schema.json
# Proposed by `pgseal init` from the names and types of columns. Read it, correct it, then run `pgseal check`.
version: 1
database: {database}
# `tenant` says whose data a row is: a column where one looks like it, else one fixed tenant; see docs/rules.md.
tables:
"""


def _table(key: tuple[str, str], found: Sequence[Candidate]) -> str:
    """One table's part, or nothing where no column of it looks personal."""
    lines = [line for candidate in found if (line := _column(candidate))]
    if not any(not line.lstrip().startswith("#") for line in lines):
        return ""
    tenant = next((name for name in TENANT_COLUMNS for c in found if c.column == name), None)
    head = [f"  {_scalar('.'.join(key))}:\n"]
    source = f"from: column, name: {tenant}" if tenant else "from: fixed, name: main"
    head.append(f"    tenant: {{{source}}}\n")
    return "".join((*head, "    columns:\n", *lines))


def _column(candidate: Candidate) -> str:
    kind = sign_of(candidate.column)
    if kind is None:
        return ""
    name = _scalar(candidate.column)
    type_ = rule_type(candidate.type)
    if type_ is None:
        return f"      # {name}: {candidate.type} cannot be protected in this version\n"
    is_text = type_.partition("(")[0] in TEXTUAL
    options = OPTIONS[kind] if is_text or kind in ("search", "health") else ""
    if candidate.is_unique and kind in ("email", "search"):
        options = UNIQUE
    context = _scalar(f"{candidate.schema}.{candidate.table}.{candidate.column}")
    return f"      {name}: {{type: {_scalar(type_)}{options}, context: {context}}}\n"


def _usual_owner(live: Iterable[Candidate]) -> str | None:
    """Who owns most of the tables: usually the log-in of the application. Never the superuser by default."""
    owners = Counter(candidate.owner for candidate in live if candidate.owner not in ("", "postgres"))
    return owners.most_common(1)[0][0] if owners else None


def _roles(login: str | None) -> str:
    named = (
        f"  {_scalar(login)}: {{read: plain}}"
        if login
        else "  # app: {read: plain}   # your application's log-in"
    )
    return f"roles:\n  default: {{read: deny}}\n{named}\n"


def _scalar(text: str) -> str:
    """A YAML scalar: bare where every reader takes it for a string, else double-quoted."""
    if re.fullmatch(r"[a-z_][a-z0-9_.]*(\([0-9]+\))?", text) and text not in (
        "true",
        "false",
        "null",
        "yes",
        "no",
    ):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\x{ord(m[0]):02x}", escaped) + '"'
