"""The demo on an embedded PostgreSQL and a local KEK: its server, its installation, its worker, its end.

Each claim it prints is checked. One reason to change: how the demo is set up and ends.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.markup import escape

from proxy.audit.verify import Report, verify
from proxy.audit.writers import next_writer
from proxy.cli import clinic
from proxy.cli.approval import secrets_of
from proxy.cli.init import Init
from proxy.cli.installation import Installation, load
from proxy.cli.output import run_async, stdout
from proxy.cli.worker import Worker, start_worker
from proxy.config import Config
from proxy.dsn import parse_dsn
from proxy.embedded import FAST, EmbeddedPostgres
from proxy.net.settings import NetSettings
from proxy.net.workers import Place

CONFIG: Final = """\
listen: 127.0.0.1:0
state: .pgseal/state
server: {{host: 127.0.0.1, port: {port}, tls: disable}}
rules: rules/
service: postgresql://pgseal@127.0.0.1:{port}/clinic?passfile=.pgseal/pgpass
kms: {{main: {{provider: local, keyfile: .pgseal/kek}}}}
audit: {{path: audit/}}
http: {{listen: "127.0.0.1:0"}}
"""


def show(once: bool) -> bool:
    """Whether all that it showed held."""
    with EmbeddedPostgres(settings={**FAST, "log_statement": "all"}) as server:
        return not run_async(_demo(server, stdout(), once))


async def _demo(server: EmbeddedPostgres, console: Console, once: bool) -> list[str]:
    """The story on a fresh server; what of it did not hold."""
    with tempfile.TemporaryDirectory(prefix="pgseal-demo-") as folder:
        await asyncio.to_thread(_prepare_server, server.dsn())
        installation = await _install(Path(folder), server)
        secrets = await secrets_of(installation)
        config = installation.config
        root = bytes(secrets.audit_root)
        writer = next_writer(root, config.audit.folder, config.state, secrets.name, 0, time.time())
        worker = await start_worker(installation, secrets, writer, Place(0, NetSettings.of(config)))
        try:
            stage = clinic.Stage(console)
            await _tell(stage, worker, server)
            _show_audit(stage, worker, root)
            await asyncio.to_thread(clinic.show_metrics, stage, _places(worker, server))
            _conclude(stage)
            if not once and not stage.failed:
                await _serve_on(stage, _places(worker, server))
        finally:
            await worker.server.close(1.0)
            await worker.close()
        return stage.failed


def _prepare_server(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as admin:
        for statement in clinic.SETUP:
            admin.execute(statement.encode())


async def _install(folder: Path, server: EmbeddedPostgres) -> Installation:
    """As `pgseal init` does it, with the clinic's rules."""
    path = folder / "pgseal.yaml"
    path.write_text(CONFIG.format(port=server.port), encoding="utf-8")
    (folder / "rules").mkdir()
    (folder / "rules" / "clinic.yaml").write_text(clinic.RULES, encoding="utf-8")
    await Init(path, parse_dsn(server.dsn(database=clinic.DATABASE)), None, False, False).run()
    return load(path)


def _places(worker: Worker, server: EmbeddedPostgres) -> clinic.Places:
    assert worker.http is not None
    return clinic.Places(
        proxy_port=worker.server.port,
        server_port=server.port,
        metrics_url=f"http://{worker.http.address}/metrics",
        data_dir=server.data_dir,
        log_path=server.log_path,
    )


async def _tell(stage: clinic.Stage, worker: Worker, server: EmbeddedPostgres) -> None:
    """A driver's error is a claim that did not hold."""
    try:
        await asyncio.to_thread(clinic.tell, stage, _places(worker, server))
    except psycopg.Error as error:
        stage.claim(f"the story went on: {type(error).__name__} {error.sqlstate}: {error}", False)


def _show_audit(stage: clinic.Stage, worker: Worker, root_key: bytes) -> None:
    stage.heading("8. The audit trail, and whether it is whole")
    auditor, config = worker.shared.audit, worker.installation.config
    auditor.sync()
    lines = [line for path in _trail(config) for line in path.read_bytes().splitlines()]
    events = [event for line in lines for event in json.loads(line)["events"]]
    statements = [event for event in events if event.get("kind") == "statement"]
    names = ("user", "tenant", "tag", "columns", "sealed", "opened", "outcome")
    rows = [_audit_row(event) for event in statements[-8:]]
    stage.console.print(stage.rows("the last statements over protected columns", names, rows))
    report = verify(config.audit.folder, root_key, config.state)
    stage.claim(f"{report.n_events} events form one chain; nothing is missing or changed", report.is_whole)
    stage.claim("refusals are in it too", any(event["outcome"] in ("refused", "denied") for event in statements))
    text = b"".join(path.read_bytes() for path in _trail(config))
    stage.claim("and it holds none of the values", not any(canary in text for canary in clinic.CANARIES))
    tampered = _tampered(config, root_key)
    stage.claim("a copy with one digit changed is found out", not tampered.is_whole)


def _audit_row(event: dict[str, Any]) -> tuple[object, ...]:
    columns = ", ".join(str(column).rpartition(".")[2] for column in event["columns"])
    outcome = f"{event['outcome']} {event['sqlstate']}".strip()
    return (
        event["user"],
        event["tenant"],
        event["tag"],
        columns,
        event["cells_sealed"],
        event["cells_opened"],
        outcome,
    )


def _trail(config: Config) -> list[Path]:
    return sorted(config.audit.folder.glob("*.jsonl"))


def _tampered(config: Config, root_key: bytes) -> Report:
    """What the verifier says of a copy in which one digit is another."""
    with tempfile.TemporaryDirectory(prefix="pgseal-tampered-") as folder:
        for path in _trail(config):
            lines = path.read_bytes().splitlines(keepends=True)
            lines[-1] = re.sub(rb'"time_us":\d', b'"time_us":0', lines[-1])
            (Path(folder) / path.name).write_bytes(b"".join(lines))
        return verify(Path(folder), root_key, config.state)


def _conclude(stage: clinic.Stage) -> None:
    stage.console.print()
    if stage.failed:
        stage.console.print(f"[bold red]{len(stage.failed)} of the claims did not hold:[/bold red]")
        for text in stage.failed:
            stage.console.print(f"  {escape(text)}")
    else:
        stage.console.print("[bold green]Everything above held.[/bold green]")


async def _serve_on(stage: clinic.Stage, places: clinic.Places) -> None:
    stage.console.print("\nStill serving. Try it, through pgseal and beside it:")
    stage.console.print(f"  psql {places.through(clinic.OWNER)}", highlight=False)
    stage.console.print(f"  psql {places.direct()}      [dim](the database administrator's view)[/dim]")
    stage.console.print(f"  curl {places.metrics_url}\nCtrl-C ends it and leaves nothing behind.")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
