"""The loop that drives one session: bytes in, a step, bytes out, on both sockets.

Theory. Each socket's protocol (`legs.py`) pushes what came into the session and steps it at once, inside the
callback: no task, no await, no copy of its own. Only a step that asks for something (keys, a plan, a turn of the
loop) leaves that path; while it is under way both sockets are not read, so what the session holds stays bounded.
Reading one side never waits for the other side in any other way, so the pair cannot lock up where a direct
connection would not.

Ends. A client's half-close is passed on once its bytes are with the server (between plain sockets; TLS cannot
half-close). A client that is gone takes its server connection with it. A server that ends has all it sent
forwarded first. This is the one place that catches everything: what was not foreseen is logged as class and
place, never with values, and costs this client its connection and no one else.
One reason to change: what a step asks of the two sockets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from proxy.audit.events import Event
from proxy.errors import AdminShutdown, InternalError, PgsealError
from proxy.net.edge import Edge, Vanished
from proxy.net.legs import ClientLeg, Leg, Pause, ServerLeg
from proxy.session.interface import ClientConnection, Close, Need, Step
from proxy.wire.backend import error_response

_LINGER_S: Final = 10.0  # for some of the last bytes to leave at a close
_MUCH: Final = 1 << 62
_log = logging.getLogger("pgseal.net")
_events = structlog.get_logger("pgseal.net")


class Work(Protocol):
    """What a relay may ask of the process around it."""

    async def ensure(self, needs: tuple[Need, ...]) -> None:
        """Fetches what a session lacks. A failure is remembered there and raised by the session's next step."""
        ...

    def record(self, events: Sequence[Event]) -> None: ...


class Host(Protocol):
    """What a relay needs of its server."""

    @property
    def work(self) -> Work: ...

    def spawn(self, job: Coroutine[Any, Any, None]) -> None: ...

    async def cancel(self, key: bytes) -> None: ...

    def forget(self, relay: Relay) -> None: ...


class Relay:
    """One client connection from AuthenticationOk to its end. `start` takes both transports over."""

    def __init__(self, connection: ClientConnection, host: Host) -> None:
        self._connection = connection
        self._host = host
        self._client: Leg
        self._server: Leg
        self._is_busy = False  # a need or a further turn is under way
        self._is_held = False
        self._is_closed = False
        self._has_client_ended = False
        self._has_server_ended = False
        self._n_open = 2

    @property
    def is_idle(self) -> bool:
        return self._connection.is_idle

    def start(self, client: Edge, server: Edge, server_ok: bytes) -> None:
        """`server_ok` is the AuthenticationOk that log-in kept back; the session sees it first."""
        self._client = ClientLeg(self, client.transport, self._connection)
        self._server = ServerLeg(self, server.transport, self._connection)
        self._client.peer, self._server.peer = self._server, self._client
        client.transport.set_protocol(self._client)
        server.transport.set_protocol(self._server)
        self._server.data_received(server_ok + server.take())
        early = client.take()
        if early:
            self._client.data_received(early)
        if server.is_ended:
            self.server_ended()
        if client.is_ended:
            self.client_ended(client.transport)

    # --- the fast path

    def pump(self) -> None:
        """Steps the session once and writes what it gives."""
        if self._is_busy or self._is_closed:
            return
        try:
            step = self._connection.step()
            if step.to_server:
                self._server.write(step.to_server)
            if step.to_client:
                self._client.write(step.to_client)
            if (
                step.needs
                or step.more
                or step.events
                or step.close is not None
                or step.cancel
                or step.hold_client is not self._is_held
            ):
                self._act(step)
        except Exception as error:
            self.fail(error)

    def record(self, events: Sequence[Event]) -> None:
        self._host.work.record(events)

    # --- what a step asks for

    def _act(self, step: Step) -> None:
        if step.events:
            self._host.work.record(step.events)
        if step.hold_client is not self._is_held:
            self._hold(step.hold_client)
        if step.close is not None:
            self._close(step.close)
        elif step.cancel:
            self._host.spawn(self._host.cancel(self._connection.server_key))
        if self._is_closed:
            return
        if step.needs:
            self._set_busy()
            self._host.spawn(self._ensure(step.needs))
        elif step.more:
            self._set_busy()
            asyncio.get_running_loop().call_soon(self._go_on)

    def _hold(self, is_held: bool) -> None:
        self._is_held = is_held
        if is_held:
            self._client.pause(Pause.HELD)
        else:
            self._client.resume(Pause.HELD)
            self._pass_half_close()

    def _set_busy(self) -> None:
        self._is_busy = True
        self._client.pause(Pause.WORK)
        self._server.pause(Pause.WORK)

    async def _ensure(self, needs: tuple[Need, ...]) -> None:
        try:
            await self._host.work.ensure(needs)
        except Exception as error:
            self.fail(error)
        self._go_on()

    def _go_on(self) -> None:
        self._is_busy = False
        self.pump()
        if self._is_busy or self._is_closed:
            return
        self._client.resume(Pause.WORK)
        self._server.resume(Pause.WORK)
        if self._has_server_ended:
            self._close(Close.GRACEFUL)
        elif self._has_client_ended:
            self._pass_half_close()

    # --- ends

    def client_ended(self, transport: asyncio.Transport) -> bool:
        """The client sends no more. True keeps the other direction open."""
        if transport.get_extra_info("sslcontext") is not None:
            return False  # connection_lost follows
        if self._is_closed:
            return False  # the peer has closed too
        self._has_client_ended = True
        try:
            self._connection.client_eof()
        except Exception as error:
            self.fail(error)
        self.pump()
        self._pass_half_close()
        return True

    def _pass_half_close(self) -> None:
        """Once nothing of the client's is left here; asyncio writes what it has buffered first."""
        if not self._has_client_ended or self._is_busy or self._is_held or self._is_closed:
            return
        if self._server.transport.can_write_eof():
            _end_writing(self._server.transport)
        else:
            self._close(Close.GRACEFUL)

    def client_lost(self) -> None:
        self._close(Close.GRACEFUL)
        self._leave()

    def server_ended(self) -> None:
        if self._is_closed:
            return
        if not self._has_server_ended:
            self._has_server_ended = True
            self._connection.server_eof()
        if not self._is_busy:
            self.pump()
            self._close(Close.GRACEFUL)

    def server_lost(self) -> None:
        self._leave()

    def stop(self) -> None:
        """The proxy ends; the client hears what a stopping PostgreSQL says."""
        self._last_word(AdminShutdown("terminating connection due to administrator command", severity="FATAL"))

    def fail(self, error: Exception) -> None:
        """Nothing continues after an error that reached this far."""
        if isinstance(error, PgsealError):
            error.severity = "FATAL"
            self._last_word(error)
        else:
            report(error)
            self._last_word(_internal())

    def _last_word(self, error: PgsealError) -> None:
        if not self._is_closed:
            self._client.transport.write(error_response(error))
            self._server.transport.abort()
            self._close(Close.GRACEFUL)

    def _close(self, how: Close) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._client.discard()
        close_gently(self._client.transport, self._has_client_ended)
        if how is Close.CANCEL and self._connection.server_key:
            self._server.discard()
            self._host.spawn(self._cancel_and_close())
        else:
            close(self._server.transport)

    async def _cancel_and_close(self) -> None:
        await self._host.cancel(self._connection.server_key)
        close(self._server.transport)

    def _leave(self) -> None:
        self._n_open -= 1
        if self._n_open == 0:
            self._host.forget(self)


def close_gently(transport: asyncio.Transport, has_peer_ended: bool) -> None:
    """As `close`, but a plain socket is read until the peer closes too: to close over unread bytes would reset
    the connection, and the reset may overtake what was written last."""
    if has_peer_ended or not transport.can_write_eof():
        close(transport)
    elif not transport.is_closing():
        _end_writing(transport)
        _linger(transport, _MUCH)


def _end_writing(transport: asyncio.Transport) -> None:
    """A half-close. asyncio's own loop raises (ENOTCONN) where the peer is gone already; uvloop does not."""
    try:
        transport.write_eof()
    except OSError:
        transport.abort()


def close(transport: asyncio.Transport) -> None:
    """Flushes what is buffered, within bounds, then closes."""
    transport.close()
    _linger(transport, _MUCH)


def _linger(transport: asyncio.Transport, n_before: int) -> None:
    """Cuts off a peer that takes nothing for a while; one that is only slow gets everything."""
    n_left = transport.get_write_buffer_size()
    if n_left < n_before:
        asyncio.get_running_loop().call_later(_LINGER_S, _linger, transport, n_left)
    else:
        transport.abort()


async def contained(
    job: Coroutine[Any, Any, None], last_word: Callable[[PgsealError], None] = lambda error: None
) -> None:
    """Runs a job of one connection; what was not foreseen is reported and ends there."""
    try:
        await job
    except Vanished:
        raise
    except Exception as error:
        report(error)
        last_word(_internal())


def _internal() -> InternalError:
    return InternalError("internal error in pgseal; its log says where", severity="FATAL")


def exit_code(job: Callable[[], None]) -> int:
    """Runs a whole worker: 0 when it ended in order, 1 when it could not go on."""
    try:
        job()
    except PgsealError as error:
        hint = {"hint": error.hint} if error.hint else {}
        _events.error("worker cannot serve", reason=error.message, sqlstate=error.sqlstate, **hint)
        return 1
    except Exception as error:
        report(error)
        return 1
    return 0


def report(error: Exception) -> None:
    """Class and place only: messages of foreign exceptions may hold values. Ours never do."""
    place, trace = "unknown", error.__traceback__
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    said = f": {error.message}" if isinstance(error, PgsealError) else ""
    # whole before it is logged: of a foreign record only the words before its first placeholder are kept
    _log.error(f"internal error {type(error).__name__} at {place}{said}")
