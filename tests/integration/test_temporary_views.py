"""Temporary views: over plain relations they pass like others, over protected ones nothing of them is shown."""

from __future__ import annotations

import psycopg
import pytest

from tests.sealed import sealed_database

RULES = """
version: 1
tenant: {from: fixed, name: clinic}
tables:
  public.vault:
    columns:
      secret: {type: text}
roles:
  default: {read: deny}
  app: {read: plain}
"""
SETUP = (
    "CREATE TABLE vault (id int PRIMARY KEY, secret text)",
    "CREATE TABLE ward (id int PRIMARY KEY, name text)",
    "INSERT INTO vault VALUES (1, 'canary')",
    "INSERT INTO ward VALUES (5, 'north')",
)


def test_temporary_view_over_plain_tables_shows_its_rows(postgres):
    """Its columns carry the view's own OID, which the catalog knows; so do those of a view over that view."""
    with sealed_database(postgres, RULES, SETUP) as sealed, sealed.connect() as app:
        app.execute("CREATE TEMP VIEW wards AS SELECT * FROM ward")
        app.execute("CREATE TEMP VIEW again AS SELECT name AS called FROM wards")
        assert app.execute("SELECT * FROM wards").fetchall() == [(5, "north")]
        assert app.execute("SELECT called FROM again WHERE called = %s", ["north"]).fetchall() == [("north",)]
        app.execute("UPDATE wards SET name = 'south'")
        assert app.execute("SELECT again FROM again").fetchall() == [("(south)",)]


@pytest.mark.parametrize("statement", ["SELECT * FROM hidden", "SELECT secret FROM over_hidden"])
def test_temporary_view_over_a_protected_table_made_in_the_server_shows_nothing(postgres, statement):
    """Code in the server can make what a statement may not; its columns are of a relation that is not known."""
    with sealed_database(postgres, RULES, SETUP) as sealed:
        with sealed.direct() as admin:
            admin.execute(
                "CREATE FUNCTION make() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
                " EXECUTE 'CREATE TEMP VIEW hidden AS SELECT * FROM va' || 'ult';"
                " EXECUTE 'CREATE TEMP VIEW over_hidden AS SELECT * FROM hidden'; END $$"
            )
        with sealed.connect() as app:
            app.execute("SELECT make()")
            with pytest.raises(psycopg.Error) as refused:
                app.execute(statement.encode())
            assert str(refused.value.sqlstate).startswith("PS")
