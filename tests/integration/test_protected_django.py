"""Django on protected columns: its own commands make, fill and migrate auth_user through the proxy."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sealed import Sealed, sealed_database

SITE = Path(__file__).parent / "protected" / "django_site.py"
N_CHECKS = 15

RULES = """
version: 1
tables:
  public.auth_user:
    tenant: {from: fixed, name: sanatorium}
    columns:
      email:      {type: varchar(254), search: {by: equality, scope: table}}
      first_name: {type: varchar(150)}
      last_name:  {type: varchar(150)}
roles:
  default: {read: deny}
  app: {read: plain}
"""
SETTINGS = """
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": {port},
        "NAME": "{name}",
        "USER": "app",
        "OPTIONS": {{"server_side_binding": {is_binding_server_side}}},
    }}
}}
ALLOWED_HOSTS = ["127.0.0.1"]
"""
PHYSICAL = """
SELECT attname, format_type(atttypid, atttypmod),
       (SELECT count(*) FROM pg_constraint c
        WHERE c.conrelid = attrelid AND c.conkey = ARRAY[attnum] AND c.conname ~ '^pgseal_' AND c.convalidated)
FROM pg_attribute
WHERE attrelid = 'auth_user'::regclass AND attname IN ('email', 'first_name', 'last_name', 'username')
ORDER BY attname
"""


@dataclass(frozen=True, slots=True)
class Project:
    """What `startproject` made, pointed at the proxy."""

    folder: Path
    sealed: Sealed

    def run(self, *command: str) -> str:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "site_of_test.settings",
            "PYTHONPATH": str(self.folder),
            "DJANGO_SUPERUSER_PASSWORD": "Zauberberg-1924",
        }
        answer = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=170,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def manage(self, *command: str) -> str:
        return self.run("manage.py", *command)


@pytest.fixture(params=[False, True], ids=["client_side_binding", "server_side_binding"])
def project(request, postgres, tmp_path):
    with sealed_database(postgres, RULES) as sealed:
        made = Project(tmp_path, sealed)
        made.run("-m", "django", "startproject", "site_of_test", ".")
        with (tmp_path / "site_of_test" / "settings.py").open("a", encoding="utf-8") as settings:
            settings.write(
                SETTINGS.format(port=sealed.port, name=sealed.name, is_binding_server_side=request.param)
            )
        yield made


def test_django_site_over_protected_users_works_and_stores_envelopes(project):
    """migrate, createsuperuser, log-in, admin and the ORM see plaintext; the table holds envelopes only."""
    assert "auth.0012_alter_user_first_name_max_length... OK" in project.manage("migrate")
    assert project.sealed.stored(PHYSICAL) == [
        ("email", "bytea", 1),
        ("first_name", "bytea", 1),
        ("last_name", "bytea", 1),
        ("username", "character varying(150)", 0),
    ]
    project.manage("createsuperuser", "--noinput", "--username=root", "--email=root@sanatorium.example")
    held = project.run(str(SITE))
    assert len(held.split()) == N_CHECKS
    cells = project.sealed.stored("SELECT email, first_name, last_name FROM auth_user")
    assert len(cells) == 3
    assert all(bytes(cell).startswith(b"\xa6\x0b\x35\x01") for row in cells for cell in row)
    assert "No migrations to apply" in project.manage("migrate")
    assert "No changes detected" in project.manage("makemigrations", "--check", "--dry-run")
