"""The small HTTP server beside the proxy: /metrics for Prometheus, /healthz and /readyz for whoever supervises.

Read-only, JSON or Prometheus text, no cookies, no state. The Host header is checked, so that a page in an
operator's browser cannot read it through a name it controls (DNS rebinding). One reason to change: its routes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from proxy.config import HttpConfig
from proxy.hosts import Address, is_loopback

MAX_REQUEST_SIZE: Final = 4096
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'",
}
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?\Z")

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Readiness:
    """What /readyz says. `tables_refused` maps `database.schema.table` to the reason (PS006)."""

    is_ready: bool
    reasons: tuple[str, ...] = ()  # why it is not
    databases_without_rules: tuple[str, ...] = ()
    tables_refused: Mapping[str, str] = field(default_factory=dict)
    weaknesses: tuple[str, ...] = ()


class HttpServer:
    """Serves until `stop`; `address` is where it listens, also when port 0 was asked for."""

    def __init__(self, config: HttpConfig, collector: Collector, readiness: Callable[[], Readiness]) -> None:
        self._listen = config.listen
        self._readiness = readiness
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        self._runner: web.AppRunner | None = None
        self.address = config.listen

    async def start(self) -> None:
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_REQUEST_SIZE)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        self._runner = web.AppRunner(
            app, access_log=None, max_line_size=MAX_REQUEST_SIZE, max_field_size=MAX_REQUEST_SIZE
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._listen.host, self._listen.port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.address = Address(str(host), int(port))

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(self, request: web.Request, handler: Endpoint) -> web.StreamResponse:
        if not is_host_allowed(request.headers.get("Host", ""), self._listen.host):
            return _json({"error": "the Host header is not an address of this server"}, status=421)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _json({"error": error.reason.lower()}, status=error.status)

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        headers = {**_HEADERS, "Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(self._registry), headers=headers)

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return _json({"status": "ok"})

    async def _ready(self, _request: web.Request) -> web.StreamResponse:
        state = self._readiness()
        body = asdict(state)
        body["ready"] = body.pop("is_ready")
        return _json(body, status=200 if state.is_ready else 503)


def is_host_allowed(header: str, listen_host: str) -> bool:
    """On loopback: loopback addresses and `localhost`. Elsewhere also any address, the host listened on, and
    names without a dot, which no public name server answers."""
    match = _HOST.match(header)
    if match is None:
        return False
    host = match[1].strip("[]").lower()
    if is_loopback(host):
        return True
    if is_loopback(listen_host):
        return False
    return host == listen_host.lower() or "." not in host or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _json(body: Mapping[str, object], status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers=_HEADERS)
