"""pgseal's own connection to one database: catalog, key store and nothing else.

The application's statements never run here. A connection has an empty search_path (so that no object of the
database can stand in for one of pg_catalog), its own statement timeout, and is opened again with a bounded
wait after it broke. A DSN is a credential: it is never part of a message, a log line or a repr.
One reason to change: how pgseal reaches a database for itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import asyncpg

from proxy.errors import ConfigError, ConnectionFailure

APPLICATION_NAME: Final = "pgseal"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

T = TypeVar("T")
Tls: TypeAlias = ssl.SSLContext | Literal[False]
if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """Where and as whom pgseal logs in. `tls`: a context, or False for none.

    `database` replaces the database of the DSN, so that one service log-in serves every ruled database.
    """

    dsn: str = field(repr=False)
    tls: Tls = False
    database: str | None = None
    connect_timeout_s: float = 10.0
    statement_timeout_s: float = 30.0


def database_of(dsn: str) -> str:
    """The database a DSN names; the user's name where it names none, as libpq has it."""
    parts = urlsplit(dsn)
    return unquote(parts.path.lstrip("/")) or unquote(parts.username or "") or "postgres"


def host_of(dsn: str) -> str:
    """The host a DSN names: the authority, else the `host` of its query, else loopback."""
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query))
    return parts.hostname or query.get("host") or "127.0.0.1"


def is_loopback(host: str) -> bool:
    """True for this machine itself: a loopback address or a Unix socket's folder."""
    return host in LOOPBACK or host.startswith(("/", "127."))


def tls_context(mode: str, ca: Path | None, cert: Path | None, key: Path | None) -> Tls:
    """The `ssl` argument of asyncpg for one of pgseal's TLS modes: disable, require, verify-full."""
    match mode:
        case "disable":
            return False
        case "require":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        case "verify-full":
            context = ssl.create_default_context(cafile=str(ca) if ca else None)
        case _:
            raise ConfigError(f'tls: "{mode}" is none of disable, require, verify-full')
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        context.load_cert_chain(str(cert), str(key) if key else None)
    return context


def default_tls(dsn: str) -> Tls:
    """TLS for a DSN given by hand: its own `sslmode` decides; else none on loopback, verify-full off it."""
    query = dict(parse_qsl(urlsplit(dsn).query))
    mode = query.get("sslmode")
    if mode is None:
        mode = "disable" if is_loopback(host_of(dsn)) else "verify-full"
    if mode in ("allow", "prefer"):
        mode = "require"
    if mode == "verify-ca":
        mode = "verify-full"
    root = query.get("sslrootcert")
    return tls_context(mode, Path(root) if root else None, None, None)


def without_ssl(dsn: str) -> str:
    """The DSN less its ssl settings, which travel as a context instead."""
    parts = urlsplit(dsn)
    kept = "&".join(pair for pair in parts.query.split("&") if pair and not pair.startswith("ssl"))
    return parts._replace(query=kept).geturl()


def with_passfile_under(dsn: str, folder: Path) -> str:
    """The DSN with a relative `passfile` made absolute under the folder of the configuration file."""
    parts = urlsplit(dsn)
    pairs = [
        (name, str((folder / value).absolute()) if name == "passfile" else value)
        for name, value in parse_qsl(parts.query)
    ]
    query = "&".join(f"{quote(name)}={quote(value, safe='/')}" for name, value in pairs)
    return parts._replace(query=query).geturl()


async def connect(target: ServiceTarget) -> Connection:
    """One log-in. Raises ConnectionFailure with a reason that holds no credential."""
    milliseconds = str(int(target.statement_timeout_s * 1000))
    settings = {
        "application_name": APPLICATION_NAME,
        "search_path": "",
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
    }
    try:
        return await asyncpg.connect(
            dsn=without_ssl(target.dsn),
            database=target.database,
            ssl=target.tls,
            timeout=target.connect_timeout_s,
            command_timeout=target.statement_timeout_s + 5,
            server_settings=settings,
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise ConnectionFailure(
            f"pgseal's own log-in to {place_of(target)} failed: {reason_of(error)}",
            hint="check `service` (or the DSN given), its password file and the server's pg_hba.conf",
        ) from None


def place_of(target: ServiceTarget) -> str:
    """`host/database` for messages."""
    return f"{host_of(target.dsn)}/{target.database or database_of(target.dsn)}"


def reason_of(error: Exception) -> str:
    """Why a connection failed, in words that quote nothing of the DSN."""
    if isinstance(error, asyncpg.PostgresError):
        return f"{error.args[0] if error.args else type(error).__name__} ({error.sqlstate})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or "connection refused"
    return "the DSN cannot be used"


@asynccontextmanager
async def connected(target: ServiceTarget) -> AsyncIterator[Connection]:
    """A connection for the length of one command."""
    connection = await connect(target)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


class ServiceConnection:
    """One connection kept open; work on it is serial. A broken one is opened again at the next use,
    after a wait that doubles from `first_wait_s` to `longest_wait_s` while the server stays away."""

    def __init__(self, target: ServiceTarget, first_wait_s: float = 0.05, longest_wait_s: float = 5.0) -> None:
        self._target = target
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._wait_s = 0.0
        self._not_before_s = 0.0
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    @property
    def target(self) -> ServiceTarget:
        return self._target

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do `work` on the connection. A connection that was found dead before any of the work was done on it
        is replaced once; work that broke half-way is not repeated: its caller decides."""
        async with self._turn:
            connection = await self._ready()
            try:
                return await work(connection)
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
                await self._drop()
                raise ConnectionFailure(
                    f"pgseal's own connection to {place_of(self._target)} broke: {reason_of(error)}"
                ) from None
            except (TimeoutError, asyncio.CancelledError):
                await self._drop()  # its protocol state is unknown
                raise

    async def close(self) -> None:
        async with self._turn:
            await self._drop()

    async def _ready(self) -> Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        self._connection = None
        now_s = asyncio.get_running_loop().time()
        if now_s < self._not_before_s:
            raise ConnectionFailure(
                f"pgseal's own connection to {place_of(self._target)} is down; the next try is due shortly"
            )
        try:
            self._connection = await connect(self._target)
        except ConnectionFailure:
            self._wait_s = min(max(self._wait_s * 2, self._first_wait_s), self._longest_wait_s)
            self._not_before_s = asyncio.get_running_loop().time() + self._wait_s
            raise
        self._wait_s = self._not_before_s = 0.0
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
