"""No lock-in: what a keyring sealed opens from the tables and the key file, by the documents' programs alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.rules import ColumnRule
from tests.conftest import Database
from tests.keyrings import BADGE, EMAIL, LOGIN, NOTES, SSN, bench, seal
from tests.keystores import KEK
from tests.vectors import program


def room(page: str) -> dict[str, Any]:
    """The names a document's program defines."""
    names: dict[str, Any] = {}
    exec(compile(program(page), page, "exec"), names)
    return names


@pytest.mark.parametrize("rule", [NOTES, SSN, EMAIL, BADGE, LOGIN], ids=lambda rule: rule.column)
async def test_cell_sealed_by_a_keyring_opens_by_the_documents_programs(
    database: Database, tmp_path: Path, rule: ColumnRule
) -> None:
    """Cell, key store and key file are enough."""
    async with bench(database, tmp_path) as one:
        cell = await seal(one.ring, rule, "hôpital-β", "Grüße".encode())
    envelope, formats = room("envelope.md"), room("formats.md")
    with database.connect() as connection:
        key_id = envelope["key_id_of"](cell)
        realm_row = connection.execute("SELECT realm FROM pgseal.key_store_head").fetchone()
        key_row = connection.execute(
            "SELECT wrapped_dek, tenant, key_type FROM pgseal.encryption_keys WHERE key_id = %s", [key_id]
        ).fetchone()
    assert realm_row is not None and key_row is not None
    wrapped, tenant, key_type = key_row
    dek = formats["unwrap_local"](KEK, wrapped, realm_row[0], tenant, key_type)
    opened = envelope["open_cell"](cell, dek, realm_row[0], tenant, rule.context, rule.type.family)
    assert opened == "Grüße".encode()
