"""`pgseal run` as a process: it serves, reloads without dropping anyone, refuses to weaken, stops in order."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database
from tests.proxy_process import PGSEAL, Proxy, answers, proxy_process, until

RULES = """\
version: 1
tables:
  public.patients:
    tenant: {from: fixed, name: main}
    columns:
      ssn: {type: text, search: equality}
roles:
  postgres: {read: plain}
"""
MORE = RULES.replace(
    "roles:",
    "  public.visits:\n    tenant: {from: fixed, name: main}\n    columns:\n      notes: {type: text}\nroles:",
)


@pytest.fixture
def proxy(tmp_path: Path, database: Database) -> Iterator[Proxy]:
    with proxy_process(tmp_path, database, RULES) as found:
        yield found


def make_patients(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        connection.execute("CREATE TABLE patients (id int PRIMARY KEY, ssn text)")
    with proxy.connect() as connection:
        connection.execute("INSERT INTO patients VALUES (1, %s)", ["123-45-6789"])


def sealed(proxy: Proxy) -> float:
    """Cells of patients.ssn that /metrics counts. A Bind that had to wait may have been sealed again."""
    pattern = rb'pgseal_cells_sealed_total\{column="ssn",table="public.patients"\} ([0-9.]+)'
    found = re.search(pattern, proxy.http("/metrics"))
    return float(found[1]) if found else 0.0


def test_run_serves_seals_and_stops_in_order(proxy: Proxy) -> None:
    """Read back equal, held sealed; SIGTERM ends it with 0 and a trail that is whole."""
    make_patients(proxy)
    with proxy.connect() as connection:
        found = connection.execute("SELECT id FROM patients WHERE ssn = %s", ["123-45-6789"]).fetchall()
        assert found == [(1,)]
    with proxy.database.connect() as direct:
        row = direct.execute("SELECT ssn FROM patients").fetchone()
    assert row is not None and row[0].startswith(b"\xa6\x0b\x35")
    assert proxy.stop() == 0
    verified = subprocess.run(
        [PGSEAL, "audit", "verify", "--config", proxy.folder / "pgseal.yaml", "--json"], capture_output=True
    )
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["records"] > 3
    assert "123-45-6789" not in proxy.said


def test_run_readyz_and_metrics_answer(proxy: Proxy) -> None:
    """Ready with its weaknesses listed; counters by column of the rules."""
    make_patients(proxy)
    ready = json.loads(proxy.http("/readyz"))
    assert ready["ready"] is True
    assert any("administrator can read" in text for text in ready["weaknesses"])
    assert sealed(proxy) >= 1


def test_run_more_protection_is_taken_while_connections_stay(proxy: Proxy) -> None:
    """A new table in the rules is protected within seconds; the open connection goes on."""
    with proxy.connect() as connection:
        proxy.write_rules(MORE)
        until(lambda: "reloaded" in proxy.said)
        connection.execute("CREATE TABLE visits (id int, notes text)")
        with proxy.database.connect() as direct:
            column = direct.execute(
                "SELECT atttypid::regtype::text FROM pg_attribute"
                " WHERE attrelid = 'visits'::regclass AND attname = 'notes'"
            ).fetchone()
    assert column == ("bytea",)


def test_run_bad_weaker_or_unfitting_rules_change_nothing(proxy: Proxy) -> None:
    """A column gone, a wider role, a mistake, no YAML, a table full of plaintext: the reason is logged each time,
    and the old rules go on for the connection that is open."""
    make_patients(proxy)
    proxy.database.execute("CREATE TABLE visits (id int, notes text); INSERT INTO visits VALUES (1, 'x')")
    changes = (
        (RULES.replace("ssn:", "name:"), "is not protected any more"),
        (RULES.replace("roles:", "roles:\n  default: {read: plain}"), "may read"),
        (RULES.replace("search:", "serch:"), "unknown key"),
        ("tables: [", "app.yaml:1"),
        (MORE, "public.visits.notes"),
    )
    with proxy.connect() as connection:
        for number, (change, reason) in enumerate(changes, 1):
            proxy.write_rules(change)
            proxy.process.send_signal(signal.SIGHUP)
            until(
                lambda number=number, reason=reason: (
                    proxy.said.count("reload refused") >= number and reason in proxy.said
                )
            )
            assert connection.execute("SELECT ssn FROM patients").fetchall() == [("123-45-6789",)]
        assert connection.execute("SELECT notes FROM visits").fetchall() == [("x",)]


def test_run_table_and_rule_that_part_are_refused_alone(proxy: Proxy) -> None:
    """A guard dropped behind pgseal's back, and a guard that no rule names: PS006 for those tables, with what to
    run; everything else serves."""
    make_patients(proxy)
    proxy.database.execute(
        "CREATE TABLE others (c bytea CONSTRAINT pgseal_0123456789abcdef CHECK (c IS NULL OR length(c) > 1))"
    )
    with proxy.database.connect() as direct:
        name = direct.execute("SELECT conname FROM pg_constraint WHERE conname LIKE 'pgseal\\_%'").fetchone()
        assert name is not None
        direct.execute(f"ALTER TABLE patients DROP CONSTRAINT {name[0]}".encode())
    until(lambda: proxy.said.count("table refused") >= 2)
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        for statement, reason in (
            ("SELECT ssn FROM patients", "has no guard"),
            ("SELECT c FROM others", "guard"),
        ):
            with pytest.raises(psycopg.Error, match=reason) as caught:
                connection.execute(statement.encode())
            assert caught.value.sqlstate == "PS006"


def test_run_long_statement_is_planned_in_another_process(proxy: Proxy) -> None:
    """200 kB over a protected table: planned off the loop, inserted, read back."""
    make_patients(proxy)
    rows = ", ".join(f"({n}, 'value-{n:06d}')" for n in range(10, 9000))
    with proxy.connect() as connection:
        connection.execute(f"INSERT INTO patients VALUES {rows}".encode())
        assert connection.execute("SELECT count(*) FROM patients").fetchone() == (8991,)
        assert connection.execute("SELECT ssn FROM patients WHERE id = 8999").fetchone() == ("value-008999",)


def test_run_dead_worker_is_replaced(proxy: Proxy) -> None:
    """The supervisor starts another; clients connect again."""
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    until(lambda: answers(proxy))
    make_patients(proxy)
    assert proxy.stop() == 0


def test_run_taken_address_exits_2(tmp_path: Path, database: Database, proxy: Proxy) -> None:
    """One line that names the address."""
    config = tmp_path / "pgseal.yaml"
    config.write_text(config.read_text().replace("listen: 127.0.0.1:0", f"listen: 127.0.0.1:{database.port}", 1))
    answer = subprocess.run([PGSEAL, "run", "--config", config], capture_output=True, text=True, timeout=20)
    assert answer.returncode == 2
    assert "cannot listen" in answer.stderr


@pytest.mark.parametrize("key", ["listen", "http.listen"])
def test_run_address_of_another_pgseal_exits_2(tmp_path: Path, proxy: Proxy, key: str) -> None:
    """A second pgseal neither shares the clients of the first nor restarts its workers for ever."""
    config = tmp_path / "pgseal.yaml"
    text = config.read_text()
    if key == "listen":
        text = text.replace("listen: 127.0.0.1:0", f"listen: 127.0.0.1:{proxy.port}", 1)
    else:
        text = text.replace("'127.0.0.1:0'", f"'127.0.0.1:{proxy.http_port}'")
    config.write_text(text)
    answer = subprocess.run([PGSEAL, "run", "--config", config], capture_output=True, text=True, timeout=20)
    assert answer.returncode == 2
    assert f"error: {key}: cannot listen on 127.0.0.1:" in answer.stderr
    assert "hint: Another process listens there" in answer.stderr


def test_run_worker_that_cannot_start_exits_2_with_the_reason_once(tmp_path: Path, proxy: Proxy) -> None:
    """An audit folder that is a file: found in the first of two workers, and nothing is tried again."""
    config = tmp_path / "pgseal.yaml"
    (tmp_path / "taken").write_text("")
    config.write_text(config.read_text() + "workers: 2\naudit: {path: taken}\n")
    answer = subprocess.run([PGSEAL, "run", "--config", config], capture_output=True, text=True, timeout=20)
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.count("worker cannot serve") == 1 and "internal error" not in answer.stderr


def test_run_two_workers_add_up_in_metrics(tmp_path: Path, database: Database) -> None:
    """Connections land in either worker; the first one serves the sum, and both trails are whole."""
    with proxy_process(tmp_path, database, RULES, more="workers: 2\n") as proxy:
        make_patients(proxy)
        for number in range(2, 14):
            with proxy.connect() as connection:
                connection.execute("INSERT INTO patients VALUES (%s, %s)", [number, f"value {number}"])
        until(lambda: sealed(proxy) >= 13)
        assert proxy.stop() == 0
        command = [PGSEAL, "audit", "verify", "--config", tmp_path / "pgseal.yaml", "--json"]
        verified = json.loads(subprocess.run(command, capture_output=True).stdout)
        assert verified["whole"] is True
        assert verified["writers"] == 2
