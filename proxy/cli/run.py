"""`pgseal run`: serve until told to stop.

One reason to change: what happens before the first worker starts.
"""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path
from typing import Final

import typer

from proxy import logs
from proxy.audit.writers import next_writer
from proxy.cli.approval import secrets_of
from proxy.cli.installation import CONFIG, ENV_SECURITY, Installation, load
from proxy.cli.output import fail, run_async, say
from proxy.cli.worker import Worker, read_lock, start_worker
from proxy.hosts import Address
from proxy.keys.kms.base import overwrite
from proxy.net.gate import check_auth
from proxy.net.settings import NetSettings
from proxy.net.workers import Place, supervise
from proxy.service.instance import Instance

EXAMPLE: Final = "Example: [bold]pgseal run --config /etc/pgseal/pgseal.yaml[/bold]"


def run(
    config: Path = CONFIG,
    log_level: str = typer.Option("info", "--log-level", help="debug, info, warning or error."),
    allow_env_security: bool = ENV_SECURITY,
) -> None:
    """Serve. SIGTERM stops in good order, SIGHUP reads configuration and rules again."""
    if log_level not in ("debug", "info", "warning", "error"):
        fail(f"--log-level {log_level} is none of debug, info, warning, error")
    logs.configure(log_level)
    installation = load(config, allow_env_security)
    settings = NetSettings.of(installation.config)
    reasons = check_auth(settings)
    if reasons:
        fail("\n".join(f"{config}: {reason}" for reason in reasons))
    _refuse_taken("listen", installation.config.listen)
    if installation.config.http is not None:
        _refuse_taken("http.listen", installation.config.http.listen)
    secrets = run_async(secrets_of(installation))
    read_lock(installation, secrets)
    code = _serve(installation, settings, secrets)
    raise typer.Exit(code)


def _refuse_taken(key: str, address: Address) -> None:
    """Workers share a port by SO_REUSEPORT: a second pgseal would take clients of the first one."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server((address.host, address.port), family=family).close()
    except OSError as error:
        reason = error.strerror or "the address cannot be used"
        hint = f"another process listens there, perhaps a pgseal: end it, or write another {key}"
        fail(
            f"{key}: cannot listen on {address}: {reason}", hint=hint if error.errno == errno.EADDRINUSE else None
        )


def _serve(installation: Installation, settings: NetSettings, secrets: Instance) -> int:
    config = installation.config

    async def start(place: Place) -> Worker:
        """In the worker: its own start key, and the root key forgotten."""
        folder, state = config.audit.folder, config.state
        writer = next_writer(bytes(secrets.audit_root), folder, state, secrets.name, place.index, time.time())
        overwrite(secrets.audit_root)
        return await start_worker(installation, secrets, writer, place)

    try:
        return supervise(settings, config.workers, start, lambda port: _announce(installation, port))
    except OSError as error:
        fail(f"cannot listen on {config.listen}: {error.strerror or 'the address cannot be used'}")


def _announce(installation: Installation, port: int) -> None:
    config = installation.config
    databases = ", ".join(sorted(installation.rules)) or "no database"
    server = f"{config.server.host}:{config.server.port}"
    say(f"pgseal serves {config.listen.host}:{port} for {server}; rules of {databases}")
    for weakness in installation.weaknesses():
        say(f"weak: {weakness}")
