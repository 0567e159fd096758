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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

import asyncpg

from proxy.dsn import ServiceDsn, SslMode
from proxy.errors import ConnectionFailure

APPLICATION_NAME: Final = "pgseal"
FILES: Final = frozenset({"passfile", "sslrootcert", "sslcert", "sslkey"})

T = TypeVar("T")
if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection


class DatabaseMissing(ConnectionFailure):
    """The server is there and says that it has no such database (3D000)."""


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """Where and as whom pgseal logs in. `database` replaces the database of the DSN, so that one service log-in
    serves every ruled database. Files that the DSN names are sought from `folder`."""

    dsn: ServiceDsn
    folder: Path = Path()
    database: str | None = None
    connect_timeout_s: float = 10.0
    statement_timeout_s: float = 30.0

    @property
    def place(self) -> str:
        """`host:port/database` for messages."""
        return f"{self.dsn.host}:{self.dsn.port}/{self.database or self.dsn.database}"


def tls_of(dsn: ServiceDsn) -> ssl.SSLContext | None:
    """The context for verify-full without a CA file of its own (the system's CAs); else the URI decides."""
    names = dict(parse_qsl(urlsplit(dsn.uri).query))
    if dsn.sslmode is SslMode.VERIFY_FULL and "sslrootcert" not in names:
        return ssl.create_default_context()
    return None


def uri_of(dsn: ServiceDsn, folder: Path) -> str:
    """The connection URI with the files it names made absolute under a folder."""
    parts = urlsplit(dsn.uri)
    pairs = [
        (name, str((folder / value).absolute()) if name in FILES else value)
        for name, value in parse_qsl(parts.query)
    ]
    query = "&".join(f"{quote(name)}={quote(value, safe='/')}" for name, value in pairs)
    return parts._replace(query=query).geturl()


def passfile_of(dsn: ServiceDsn, folder: Path) -> Path | None:
    """The password file that a DSN names."""
    named = dict(parse_qsl(urlsplit(dsn.uri).query)).get("passfile")
    return (folder / named).absolute() if named else None


def _check_passfile(target: ServiceTarget) -> None:
    """A password file that others can read is not used, as libpq does not use it."""
    passfile = passfile_of(target.dsn, target.folder)
    if passfile is not None and passfile.is_file() and passfile.stat().st_mode & 0o077:
        raise ConnectionFailure(
            f"pgseal's own log-in to {target.place}: others may read its password file {passfile}",
            hint=f"run: chmod 600 {passfile}",
        )


async def connect(target: ServiceTarget) -> Connection:
    """One log-in. Raises ConnectionFailure with a reason that holds no credential."""
    _check_passfile(target)
    milliseconds = str(int(target.statement_timeout_s * 1000))
    settings = {
        "application_name": APPLICATION_NAME,
        "search_path": "",
        "standard_conforming_strings": "on",
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
    }
    try:
        return await asyncpg.connect(
            dsn=uri_of(target.dsn, target.folder),
            database=target.database,
            ssl=tls_of(target.dsn),
            timeout=target.connect_timeout_s,
            command_timeout=target.statement_timeout_s + 5,
            server_settings=settings,
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        is_missing = isinstance(error, asyncpg.InvalidCatalogNameError)
        raise (DatabaseMissing if is_missing else ConnectionFailure)(
            f"pgseal's own log-in to {target.place} failed: {reason_of(error)}",
            hint="check `service` (or the DSN given), its password file and the server's pg_hba.conf",
        ) from None


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
                    f"pgseal's own connection to {self._target.place} broke: {reason_of(error)}"
                ) from None
            except asyncpg.QueryCanceledError:  # it waits for a lock that a client's statement holds
                raise ConnectionFailure(
                    f"pgseal's own statement on {self._target.place} was not done in time",
                    hint="look for a lock on the catalog in pg_locks",
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
                f"pgseal's own connection to {self._target.place} is down; the next try is due shortly"
            )
        try:
            self._connection = await connect(self._target)
        except DatabaseMissing:
            raise  # the server need not be spared
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
