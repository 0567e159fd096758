"""A PostgreSQL of one's own for the demo, the tests and the benchmark: started, stopped, removed.

Owns the life of one server process with its data folder. One reason to change: how a PostgreSQL is run without
anything being installed by hand (`server_binaries.py` says where its programs come from).

PostgreSQL refuses to run as root; then the server runs as `postgres` or `nobody`, in a folder that belongs to
that user. Whether a server is up is read from the status line of postmaster.pid, as pg_ctl does (manual,
"Database File Layout").
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import ipaddress
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.containers import ContainerServer, run_to_end
from proxy.server_binaries import Binaries, ServerMissing, find_binaries

__all__ = ["FAST", "TRUST", "EmbeddedPostgres", "ServerMissing", "TlsFiles", "find_binaries", "make_certificate"]

TRUST = (
    "local all all trust",
    "host all all 127.0.0.1/32 trust",
    "host all all ::1/128 trust",
    "local replication all trust",
    "host replication all 127.0.0.1/32 trust",
)
# for servers whose data nobody will miss
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "32MB"}
_START_TIMEOUT_S = 60.0
_POLL_S = 0.02
_PORT_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a server; `ca` verifies client certificates when given."""

    cert: Path
    key: Path
    ca: Path | None = None


# --- running ------------------------------------------------------------


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}


def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as; None: as ourselves, since we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerMissing("PostgreSQL does not run as root, and neither user postgres nor user nobody exists here")


def _process_options(account: pwd.struct_passwd | None) -> dict[str, Any]:
    options: dict[str, Any] = {"cwd": "/", "env": _environment(), "stdin": subprocess.DEVNULL}
    if account is not None:
        options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return options


def _run(command: Sequence[str | Path], account: pwd.struct_passwd | None) -> None:
    options = _process_options(account)
    answer = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # noqa: S603
    if answer.returncode != 0:
        raise ServerMissing(f"{Path(command[0]).name} failed: {(answer.stderr or answer.stdout).strip()[-1000:]}")


def _reachable(binaries: Binaries, account: pwd.struct_passwd | None) -> Binaries:
    """The same installation where the account can execute it: a checkout below /root is closed to `nobody`."""
    if account is None or binaries.image:
        return binaries
    try:
        _run([binaries.folder / "postgres", "--version"], account)
    except PermissionError:
        return _copy_installation(binaries)
    return binaries


def _copy_installation(binaries: Binaries) -> Binaries:
    source = binaries.folder.parent
    mark = hashlib.sha256(str(source).encode()).hexdigest()[:12]
    home = Path("/var/cache/pgseal")  # root's own; a folder in /tmp could be someone else's
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    target = home / f"postgres-{binaries.version}-{mark}"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            unfinished = target.with_suffix(".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(source, unfinished, symlinks=True)
            unfinished.rename(target)
    return Binaries(target / binaries.folder.name, binaries.major, binaries.version)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


class EmbeddedPostgres:
    """A server with a fresh data folder, up between `with` and its end; afterwards nothing of it is left.

    `version`: major version, None for whatever is at hand. `settings`: lines of postgresql.conf. `hba`: lines of
    pg_hba.conf, trust on loopback by default. `tls`: True for a certificate of its own, or the files to use.
    `password`: of the superuser `postgres`, for hba lines that ask for one.
    """

    def __init__(
        self,
        version: int | None = None,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] | None = None,
        tls: TlsFiles | bool | None = None,
        password: str | None = None,
    ) -> None:
        self.account = _account()
        self.binaries = _reachable(find_binaries(version), self.account)
        self.port = 0
        self.folder = Path(tempfile.mkdtemp(prefix="pgseal-pg-"))
        self.data_dir = self.folder / "data"
        self.log_path = self.folder / "server.log"
        self.tls: TlsFiles | None = None
        self._settings = dict(settings or {})
        self._hba = tuple(hba if hba is not None else TRUST)
        self._process: subprocess.Popen[bytes] | ContainerServer | None = None
        try:
            self._initialise(tls, password)
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def dsn(self, user: str = "postgres", database: str = "postgres") -> str:
        """Connection URI over TCP, without a password."""
        return f"postgresql://{quote(user, safe='')}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def tool(self, name: str) -> Path:
        """Path of a client program of the same version, or the machine's when the installation brings none."""
        own = self.binaries.folder / name
        found = own if own.is_file() else shutil.which(name)
        if found is None:
            raise ServerMissing(f"no {name} beside PostgreSQL {self.binaries.version} nor on PATH")
        return Path(found)

    def start(self) -> None:
        """Starts the server and returns when it accepts connections; keeps its port over stop and start."""
        fixed = self.port != 0
        for _ in range(_PORT_ATTEMPTS):
            self.port = self.port if fixed else _free_port()
            if self._launch():
                return
        raise ServerMissing(f"PostgreSQL did not start: {self._log_tail()}")

    def stop(self) -> None:
        """Fast shutdown (clients are disconnected with 57P01); the data stays."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As if the machine lost it: every process of the server gets SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)  # it must not see its children die, nor they it
        for child in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Stops the server at once and deletes its folder."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- steps

    def _initialise(self, tls: TlsFiles | bool | None, password: str | None) -> None:
        self._own(self.folder)
        command: list[str | Path] = [self.binaries.folder / "initdb", "--no-sync", "--pgdata", self.data_dir]
        command += ["--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=trust"]
        if password is not None:
            command += ["--pwfile", self._write(self.folder / "pwfile", password + "\n")]
        self._run(command)
        (self.folder / "pwfile").unlink(missing_ok=True)
        self._write(self.data_dir / "pg_hba.conf", "\n".join(self._hba) + "\n")
        settings = {"unix_socket_directories": str(self.folder), "listen_addresses": "127.0.0.1"}
        settings |= self._tls_settings(tls) | self._settings
        lines = "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        with (self.data_dir / "postgresql.conf").open("a") as conf:
            conf.write(lines)
        self._write(self.log_path, "")

    def _run(self, command: Sequence[str | Path]) -> None:
        """One program to its end, where the server runs."""
        if not self.binaries.image:
            _run(command, self.account)
            return
        code, said = run_to_end(self.binaries.image, command, self.folder, self._ids())
        if code != 0:
            raise ServerMissing(f"{Path(command[0]).name} in a container failed: {said.strip()[-1000:]}")

    def _ids(self) -> tuple[int, int]:
        return (self.account.pw_uid, self.account.pw_gid) if self.account else (os.getuid(), os.getgid())

    def _logged(self, command: Sequence[str]) -> list[str]:
        """The same program as process 1 of a container, its output in our log."""
        return ["sh", "-c", 'exec "$@" >>"$0" 2>&1', str(self.log_path), *command]

    def _tls_settings(self, tls: TlsFiles | bool | None) -> dict[str, str]:
        if tls is None or tls is False:
            return {}
        given = make_certificate(self.folder) if tls is True else tls
        copies = {"ssl_cert_file": given.cert, "ssl_key_file": given.key}
        if given.ca is not None:
            copies["ssl_ca_file"] = given.ca
        settings = {"ssl": "on"}
        for name, source in copies.items():
            settings[name] = str(self._write(self.data_dir / f"{name}.pem", source.read_text()))
        self.tls = given
        return settings

    def _own(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def _write(self, path: Path, text: str) -> Path:
        path.touch(mode=0o600)
        path.write_text(text)
        self._own(path)
        return path

    def _launch(self) -> bool:
        """One attempt; False when the port was taken meanwhile or a killed server's children still leave."""
        command = [str(self.binaries.folder / "postgres"), "-D", str(self.data_dir), "-p", str(self.port)]
        options = _process_options(self.account)
        mark = self.log_path.stat().st_size
        with self.log_path.open("ab") as log:
            process: subprocess.Popen[bytes] | ContainerServer
            if self.binaries.image:
                process = ContainerServer(self.binaries.image, self._logged(command), self.folder, self._ids())
            else:
                process = subprocess.Popen(command, stdout=log, stderr=log, **options)  # noqa: S603
        self._process = process
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._is_ready():
            if process.poll() is not None:
                self._process = None
                return self._explain_failure(mark)
            if time.monotonic() > deadline:
                self._end(signal.SIGQUIT)
                raise ServerMissing(f"PostgreSQL did not start in {_START_TIMEOUT_S:.0f} s: {self._log_tail()}")
            time.sleep(_POLL_S)
        return True

    def _is_ready(self) -> bool:
        """Line 1 of postmaster.pid is the process, line 8 its status."""
        assert self._process is not None
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"

    def _explain_failure(self, mark: int) -> bool:
        said = self.log_path.read_text(errors="replace")[mark:]
        if "Address already in use" in said or "pre-existing shared memory" in said:
            return False
        raise ServerMissing(f"PostgreSQL did not start: {said.strip()[-1000:]}")

    def _log_tail(self) -> str:
        return self.log_path.read_text(errors="replace").strip()[-1000:]

    def _children(self) -> list[int]:
        if self._process is None or self.binaries.image:
            return []  # a container's processes end with its first
        listing = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in listing.read_text().split()] if listing.is_file() else []

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=_START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if isinstance(process, ContainerServer):
            process.remove()


# --- certificates ------------------------------------------------------------


def make_certificate(folder: Path, name: str = "localhost") -> TlsFiles:
    """A self-signed certificate for a host name and loopback, valid for a year, as PEM files in the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = TlsFiles(folder / f"{name}.crt", folder / f"{name}.key")
    files.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.touch(mode=0o600)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files
