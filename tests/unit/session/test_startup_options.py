"""Settings in the options of a StartupMessage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.session.settings import SessionSettings
from proxy.session.startup_options import settings_of


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {}),
        ("-c app.tenant_id=north", {"app.tenant_id": "north"}),
        ("-capp.tenant_id=north", {"app.tenant_id": "north"}),
        ("--App.Tenant-Id=north", {"app.tenant_id": "north"}),
        (r"  -c  app.tenant_id=north\ east\\ -c a.b=", {"app.tenant_id": "north east\\", "a.b": ""}),
        ("-c a.b=1 -c a.b=2=3", {"a.b": "2=3"}),
        ("-esc a.b=1 -S 64 -d 3 --x=y", {"a.b": "1", "x": "y"}),
        ("-S -c a.b=1", {}),
        ("stray -c", {}),
        ("-c nothing", {}),
        ("\\", {}),
    ],
)
def test_options_are_read_as_the_server_reads_them(options: str, expected: dict[str, str]) -> None:
    """Words, backslashes, switches that stand together, and values with spaces."""
    assert settings_of(options) == expected


@given(st.text())
def test_options_of_any_text_give_settings_or_nothing(options: str) -> None:
    """No text breaks it."""
    assert all(name == name.lower() for name in settings_of(options))


def test_options_give_way_to_parameters_of_the_same_name() -> None:
    """The server applies the start-up parameters after the options."""
    settings = SessionSettings("app", {"options": "-c app.tenant_id=north -c a.b=c", "App.Tenant_Id": "south"})
    assert (settings.get("app.tenant_id"), settings.get("a.b")) == ("south", "c")
