"""Proposed rules: what names and types are recognised, and that the proposal is a valid rules file."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.rules import Read, TenantFrom
from proxy.service.proposals import Candidate, propose, rule_type, sign_of


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        ("character varying(254)", "varchar(254)"),
        ("character varying", "varchar"),
        ("numeric(12,2)", "numeric(12,2)"),
        ("integer", "int4"),
        ("timestamp with time zone", "timestamptz"),
        ("timestamp without time zone", "timestamp"),
        ("timestamp(3) with time zone", "timestamptz(3)"),
        ("point", None),
        ("text[]", None),
    ],
)
def test_rule_type_live_type_is_written_as_rules_do(live: str, expected: str | None) -> None:
    """format_type's words become the rules' words; types that cannot be protected become nothing."""
    assert rule_type(live) == expected


@pytest.mark.parametrize(
    "name", ["ssn", "patient_ssn", "eMail", "homeAddress", "date_of_birth", "phone_2", "iban"]
)
def test_sign_of_personal_name_is_recognised(name: str) -> None:
    """Snake case, camel case and numbered names are seen."""
    assert sign_of(name) is not None


@pytest.mark.parametrize("name", ["id", "created_at", "email_sent", "single", "version", "noted"])
def test_sign_of_ordinary_name_is_left_alone(name: str) -> None:
    """A word that only contains a personal one is not proposed."""
    assert sign_of(name) is None


def test_propose_nothing_personal_is_no_file() -> None:
    """A schema without personal names gives no proposal."""
    assert propose("app", [Candidate("public", "t", "id", "integer")]) is None


def test_propose_live_columns_is_a_valid_rules_file(tmp_path: Path) -> None:
    """The loader takes the proposal, odd names included; the owner may read, everyone else may not."""
    from proxy.rules_load import load_rules

    live = [
        Candidate("public", "patients", "hospital_id", "integer", "app"),
        Candidate("public", "patients", "ssn", "text", "app"),
        Candidate("public", "patients", "email", "character varying(254)", "app", is_unique=True),
        Candidate("public", "patients", "notes", "text", "app"),
        Candidate("public", "patients", "home_address", "point", "app"),
        Candidate('Odd "one"', "T'x: #", "Birth_Date", "date", "app"),
    ]
    text = propose("app", live)
    assert text is not None
    (tmp_path / "app.yaml").write_text(text)
    rules = load_rules(tmp_path, "app")["app"]
    patients = rules.tables[("public", "patients")]
    assert set(patients.columns) == {"ssn", "email", "notes"}
    assert patients.tenant.source is TenantFrom.COLUMN
    assert patients.columns["notes"].pad == 64
    assert patients.columns["ssn"].search
    assert set(rules.tables[('Odd "one"', "T'x: #")].columns) == {"Birth_Date"}
    assert rules.role("app").read is Read.PLAIN
    assert rules.role("someone").read is Read.DENY
    assert "# home_address: point cannot be protected" in text
