"""What the open transaction has done to relations, statement by statement."""

from __future__ import annotations

from dataclasses import replace

from proxy.session.settings import SessionSettings
from proxy.sql.catalog import Relation
from proxy.sql.plan import Effect, EffectKind

KEY = ("public", "patients")
FIRST = Relation(0, *KEY, "r", (), {})
SECOND = replace(FIRST, kind="p")


def overlay(*relations: Relation | None) -> dict[tuple[str, str], Relation | None]:
    settings = SessionSettings("app", {})
    for relation in relations:
        settings.apply(Effect(EffectKind.OVERLAY, relation=(KEY, relation)), None)
    return dict(settings.overlay.relations)


def test_overlay_of_one_relation_is_the_last_statements() -> None:
    """CREATE, ALTER, DROP and CREATE again: names mean what the last of them made."""
    assert overlay(FIRST, SECOND) == {KEY: SECOND}
    assert overlay(FIRST, None) == {KEY: None}
    assert overlay(FIRST, None, SECOND) == {KEY: SECOND}
