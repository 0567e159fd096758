"""/metrics, /healthz and /readyz over real HTTP, and who may ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from proxy.admin.http import MAX_REQUEST_SIZE, HttpServer, Readiness, is_host_allowed
from proxy.config import HttpConfig
from proxy.hosts import Address
from proxy.metrics import Counters, CountersCollector

READY = Readiness(
    is_ready=True,
    databases_without_rules=("postgres",),
    tables_refused={"app.public.t": "column a is text; run ALTER TABLE"},
    weaknesses=("the database administrator can read: auth.mode 'auto' trusts the server",),
)


@asynccontextmanager
async def serving(readiness: Callable[[], Readiness] = lambda: READY) -> AsyncIterator[HttpServer]:
    counters = Counters(["public.patients.ssn"])
    counters.count_sealed("public.patients.ssn", 3)
    collector = CountersCollector(lambda: [counters.snapshot()])
    server = HttpServer(HttpConfig(listen=Address("127.0.0.1", 0)), collector, readiness)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def get(
    server: HttpServer, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[int, str, dict[str, str]]:
    headers = {} if host is None else {"Host": host}
    async with aiohttp.ClientSession() as client:
        url = f"http://{server.address}{path}"
        async with client.request(method, url, headers=headers) as answer:
            return answer.status, await answer.text(), dict(answer.headers)


async def test_metrics_are_prometheus_text() -> None:
    """A scrape gives what was counted and no tenant."""
    async with serving() as server:
        status, text, headers = await get(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert 'pgseal_cells_sealed_total{column="ssn",table="public.patients"} 3.0' in text
    assert "tenant" not in text
    assert "Set-Cookie" not in headers


async def test_health_is_about_the_process_alone() -> None:
    """Alive is alive, ready or not."""
    async with serving(lambda: Readiness(False, ("the key store does not answer",))) as server:
        status, text, _ = await get(server, "/healthz")
    assert (status, json.loads(text)) == (200, {"status": "ok"})


async def test_ready_shows_what_is_weak_and_what_is_refused() -> None:
    """Databases without rules, refused tables with reasons, and weaknesses are there for whoever looks."""
    async with serving() as server:
        status, text, headers = await get(server, "/readyz")
    body = json.loads(text)
    assert status == 200
    assert body["ready"] is True
    assert body["databases_without_rules"] == ["postgres"]
    assert body["tables_refused"] == {"app.public.t": "column a is text; run ALTER TABLE"}
    assert "database administrator can read" in body["weaknesses"][0]
    assert headers["Cache-Control"] == "no-store"


async def test_not_ready_is_503_with_the_reason() -> None:
    """A balancer takes it out; an operator reads why."""
    async with serving(lambda: Readiness(False, ("the key store does not answer",))) as server:
        status, text, _ = await get(server, "/readyz")
    assert status == 503
    assert json.loads(text)["reasons"] == ["the key store does not answer"]


async def test_readiness_that_fails_shows_no_text_of_the_error() -> None:
    """A bug answers 500 without what it stumbled over."""

    def broken() -> Readiness:
        raise ValueError("canary-77")

    async with serving(broken) as server:
        status, text, _ = await get(server, "/readyz")
    assert status == 500
    assert "canary" not in text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/encryption/keys", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/readyz", 405),
        ("GET", "/" + "a" * (MAX_REQUEST_SIZE + 1), 400),
    ],
)
async def test_other_requests_are_refused(method: str, path: str, status: int) -> None:
    """There are three paths to read and nothing to write."""
    async with serving() as server:
        assert (await get(server, path, method=method))[0] == status


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9432", "10.0.0.1", "127.0.0.1.evil.example", "a@b", "["]
)
async def test_request_under_another_host_is_421(host: str) -> None:
    """A page that resolves its own name to loopback reads nothing."""
    async with serving() as server:
        status, text, _ = await get(server, "/metrics", host=host)
    assert status == 421
    assert "pgseal_" not in text


async def test_garbage_on_the_socket_closes_that_connection_only() -> None:
    """Other requests are served as before."""
    async with serving() as server:
        reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
        writer.write(b"\x16\x03\x01\x00\xff" * 50 + b"\r\n\r\n")
        await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.")
        writer.close()
        assert (await get(server, "/healthz"))[0] == 200


async def test_server_started_twice_on_one_port_fails_and_stop_may_repeat() -> None:
    """An address in use is an error at start, not a silence."""
    async with serving() as server:
        second = HttpServer(HttpConfig(listen=server.address), CountersCollector(list), lambda: READY)
        with pytest.raises(OSError, match="address"):
            await second.start()
        await second.stop()
        await second.stop()


@pytest.mark.parametrize(
    ("header", "listen", "allowed"),
    [
        ("localhost:9432", "127.0.0.1", True),
        ("[::1]:9432", "::1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("", "127.0.0.1", False),
        ("proxy:9432", "127.0.0.1", False),
        ("proxy:9432", "0.0.0.0", True),
        ("10.1.2.3:9432", "0.0.0.0", True),
        ("evil.example", "0.0.0.0", False),
        ("metrics.corp", "metrics.corp", True),
        ("localhost:9432\r\nx: y", "127.0.0.1", False),
    ],
)
def test_host_header_is_an_address_of_this_server(header: str, listen: str, allowed: bool) -> None:
    """Loopback takes loopback; a listener on the network takes addresses and names without a dot too."""
    assert is_host_allowed(header, listen) is allowed
