"""The drivers that are not Python packages: where they are kept, how they are got, which could not be had.

`python -m tests.drivers` installs them (make test does); tests ask `missing()`. A driver that cannot be had here
is named in the closing lines of a run. One reason to change: which foreign drivers the suite uses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "tests" / "integration" / "drivers"
CACHE = Path(os.environ.get("PGSEAL_CACHE", str(ROOT / ".cache")))
NODE = CACHE / "node"
JDBC = CACHE / "java" / "postgresql.jar"
DEBIAN_JDBC = Path("/usr/share/java/postgresql.jar")
JDBC_ARTIFACT = "org.postgresql:postgresql:42.7.8"
_TIMEOUT_S = 180


class CannotBeHad(Exception):
    """Why a driver is missing."""


@dataclass(frozen=True, slots=True)
class Driver:
    """`program` runs it, `file` is there once it is installed."""

    name: str
    program: str
    file: Path
    install: Callable[[], None]


def install_node() -> None:
    """The pinned packages by npm into the cache."""
    if shutil.which("npm") is None:
        raise CannotBeHad("no npm on this machine")
    NODE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SOURCES / name, NODE / name)
    _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], NODE)


def install_jdbc() -> None:
    """The machine's jar, else by Maven, else out of Debian's package without installing it."""
    JDBC.parent.mkdir(parents=True, exist_ok=True)
    if DEBIAN_JDBC.exists():
        shutil.copy(DEBIAN_JDBC, JDBC)
    elif shutil.which("mvn") is not None:
        _run(["mvn", "-q", "dependency:copy", f"-Dartifact={JDBC_ARTIFACT}", f"-DoutputDirectory={JDBC.parent}",
              "-Dmdep.stripVersion=true"], JDBC.parent)  # fmt: skip
    elif shutil.which("apt-get") is not None:
        _run(["apt-get", "download", "libpostgresql-jdbc-java"], JDBC.parent)
        archive = next(JDBC.parent.glob("libpostgresql-jdbc-java_*.deb"))
        _run(["dpkg", "-x", str(archive), "unpacked"], JDBC.parent)
        shutil.copy(JDBC.parent / "unpacked" / DEBIAN_JDBC.relative_to("/"), JDBC)
    else:
        raise CannotBeHad("neither Maven nor apt-get on this machine")


def _run(command: list[str], folder: Path) -> None:
    try:
        answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise CannotBeHad(f"{command[0]} did not end in {_TIMEOUT_S} s") from None
    if answer.returncode != 0:
        last = (answer.stderr or answer.stdout).strip().splitlines()[-1:]
        raise CannotBeHad(f"{command[0]} failed: {' '.join(last)}")


DRIVERS = (
    Driver("node-postgres", "node", NODE / "node_modules" / "pg" / "package.json", install_node),
    Driver("pg-cursor", "node", NODE / "node_modules" / "pg-cursor" / "package.json", install_node),
    Driver("postgres.js", "node", NODE / "node_modules" / "postgres" / "package.json", install_node),
    Driver("pgjdbc", "java", JDBC, install_jdbc),
)


def missing() -> dict[str, str]:
    """Name of each driver that cannot be used here, and why."""
    reasons = {}
    for driver in DRIVERS:
        if shutil.which(driver.program) is None:
            reasons[driver.name] = f"no {driver.program} on this machine"
        elif not driver.file.exists():
            reasons[driver.name] = "not installed (python -m tests.drivers says why)"
    return reasons


def install() -> None:
    """Installs what is not there yet; says what cannot be had."""
    for driver in DRIVERS:
        if driver.file.exists() or shutil.which(driver.program) is None:
            continue
        try:
            driver.install()
        except CannotBeHad as error:
            print(f"{driver.name} cannot be had: {error}", file=sys.stderr)


if __name__ == "__main__":
    install()
