"""One measurement: pgbench over a road to the database, or a long read by libpq.

One reason to change: what is measured, and how.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from psycopg import pq

from bench.processes import PeakMemory, cpu_s, rss_bytes
from bench.stage import N_ROWS, Target

SCRIPT = "\\set id random(0, {last})\nSELECT id, branch, balance, secret FROM {table} WHERE id = :id;\n"
LINE_SIZE = 1000  # of the COPY
SAMPLED = 0.2  # of the transactions are logged, which is enough for the 99th percentile
READER = "libpq in C through psycopg.pq: one extended query, whole result in binary, no Python object per row"


@dataclass(frozen=True, slots=True)
class Run:
    """What one pgbench run gave. Latencies in milliseconds, CPU of what stands in between per transaction."""

    target: str
    mode: str
    n_clients: int
    tps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_us: float | None
    rss_bytes: int | None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def pgbench(program: Path, target: Target, mode: str, n_clients: int, seconds: float) -> Run:
    """Point selects by primary key for so many seconds."""
    with tempfile.TemporaryDirectory(prefix="pgseal-pgbench-") as folder:
        script = Path(folder) / "select.sql"
        script.write_text(SCRIPT.format(last=N_ROWS - 1, table=target.table))
        command = [
            program,
            "-n",
            "-M",
            mode,
            "-c",
            str(n_clients),
            "-j",
            str(min(n_clients, 2)),
            "-T",
            str(seconds),
        ]
        command += ["-f", script, "--log", "--sampling-rate", str(SAMPLED), "--log-prefix", f"{folder}/log"]
        command += ["-h", "127.0.0.1", "-p", str(target.port), "-U", "app", "bench"]
        before = cpu_s(target.pid) if target.pid is not None else 0.0
        answer = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
        spent = cpu_s(target.pid) - before if target.pid is not None else None
        if answer.returncode != 0:
            raise RuntimeError(f"pgbench {target.name} {mode} {n_clients}: {answer.stderr[-1000:]}")
        latencies = _latencies(Path(folder))
    n_done = int(_number(r"actually processed: (\d+)", answer.stdout))
    return Run(
        target.name,
        mode,
        n_clients,
        _number(r"tps = ([\d.]+)", answer.stdout),
        *(_percentile(latencies, share) for share in (0.50, 0.95, 0.99)),
        spent / n_done * 1e6 if spent is not None else None,
        rss_bytes(target.pid) if target.pid is not None else None,
    )


def _number(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"pgbench says something new: {text[-500:]}")
    return float(match.group(1))


def _latencies(folder: Path) -> list[float]:
    """Sorted, in milliseconds: the third number of each log line is microseconds."""
    lines = [line for log in folder.glob("log.*") for line in log.read_text().splitlines()]
    return sorted(int(line.split()[2]) / 1000 for line in lines)


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Read:
    """One long read: seconds, and the most memory of what stands in between."""

    target: str
    n_rows: int
    seconds: float
    peak_rss_bytes: int | None


def read_rows(target: Target) -> Read:
    """All rows of the long table, timed from the request to the last row."""
    connection = pq.PGconn.connect(target.dsn().encode())
    try:
        watch = PeakMemory(target.pid) if target.pid is not None else nullcontext()
        with watch:
            started = time.perf_counter()
            sql = f"SELECT id, branch, balance, secret FROM {target.table}_rows".encode()
            result = connection.exec_params(sql, [], result_format=1)
            seconds = time.perf_counter() - started
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise RuntimeError(result.error_message.decode(errors="replace"))
        value = result.get_value(result.ntuples - 1, 3) or b""
        assert value.startswith(b"secret number "), "the column did not come as plaintext"
        n_rows = result.ntuples
        result.clear()
    finally:
        connection.finish()
    return Read(target.name, n_rows, seconds, watch.peak if isinstance(watch, PeakMemory) else None)


@dataclass(frozen=True, slots=True)
class Copied:
    """A COPY of so many bytes out of and into a plain table, with the most memory of what stands between."""

    target: str
    n_bytes: int
    out_s: float
    in_s: float
    peak_rss_bytes: int | None


def copy_both_ways(target: Target, n_bytes: int) -> Copied:
    """Lines of a kilobyte that the server makes, then takes and drops."""
    n_lines = n_bytes // LINE_SIZE
    lines = b"1\t1\t1\t" + b"x" * (LINE_SIZE - 7) + b"\n"
    out = f"COPY (SELECT 1, 1, 1, repeat('x', {LINE_SIZE - 7}) FROM generate_series(1, {n_lines})) TO STDOUT"
    watch = PeakMemory(target.pid) if target.pid is not None else nullcontext()
    with watch, psycopg.connect(target.dsn(), autocommit=True) as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        with cursor.copy(out.encode()) as copy:
            n_seen = sum(len(chunk) for chunk in copy)
        between = time.perf_counter()
        with cursor.copy(f"COPY {target.table} FROM STDIN WHERE id < 0".encode()) as copy:
            for _ in range(n_lines // 64):
                copy.write(lines * 64)
        ended = time.perf_counter()
    assert n_seen >= n_lines * LINE_SIZE
    peak = watch.peak if isinstance(watch, PeakMemory) else None
    return Copied(target.name, n_bytes, between - started, ended - between, peak)
