"""`make bench`: pgbench and a long read against PostgreSQL, PgBouncer and pgseal, interleaved, with ratios.

    python -m bench [--quick] [--seconds S] [--rounds N]

Runs of one (mode, clients) follow each other road by road, round by round, so that the noise of a machine hits
all alike; a ratio is taken within a round, and the median of the rounds is kept. Results go to bench/results/
with the machine they were made on. One reason to change: which runs make a benchmark.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import READER, SAMPLED, Copied, Read, Run, copy_both_ways, pgbench, read_rows
from bench.processes import machine
from bench.stage import N_DISTINCT_CELLS, SERVER_SETTINGS, Stage, stage

RESULTS = Path(__file__).parent / "results"
MODES = ("simple", "extended", "prepared")
CLIENTS = (1, 16, 64)
# What the project promises to keep is measured more often than the rest: one run of a few seconds says little
# on a machine that others share.
PROMISED = ("prepared", 16)
N_PROMISED_ROUNDS = 5
N_ROWS_READ = 1_000_000
N_BYTES_COPIED = 1_000_000_000
HEADINGS = [
    "mode",
    "clients",
    "road",
    "tps",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "of direct",
    "of PgBouncer",
    "CPU us",
    "MB",
]
Rounds = dict[tuple[str, int], list[dict[str, Run]]]


def main() -> int:
    arguments = _arguments()
    console = Console(stderr=True)
    before = machine()
    with stage(arguments.rows) as built:
        rounds = _pgbench_rounds(built, arguments.seconds, arguments.rounds, console)
        reads = _read_rounds(built, max(arguments.rounds, 3), console)
        copies = _copies(built, arguments.copy_bytes, console)
    report = {
        "machine": before,
        "postgresql": built.server.binaries.version,
        "server_settings": SERVER_SETTINGS,
        "pgbouncer": built.pgbouncer_version or "not installed",
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds_a_run": arguments.seconds,
        "n_rounds": arguments.rounds,
        "n_rounds_of_prepared_16": max(arguments.rounds, N_PROMISED_ROUNDS),
        "latency_sampled": SAMPLED,
        "reader": READER,
        "n_rows_read": arguments.rows,
        "n_distinct_cells": N_DISTINCT_CELLS,
        "ratios": _ratios(rounds, reads),
        "pgbench": [run.as_json() for each in rounds.values() for one in each for run in one.values()],
        "reads": [asdict(read) for one in reads for read in one.values()],
        "copies": [asdict(copied) for copied in copies],
    }
    _print(rounds, reads, report["ratios"])
    for copied in copies:
        peak = f", peak {copied.peak_rss_bytes / 1e6:.0f} MB" if copied.peak_rss_bytes else ""
        said = f"COPY of {copied.n_bytes / 1e9:g} GB, {copied.target}: out {copied.out_s:.1f} s"
        print(f"{said}, in {copied.in_s:.1f} s{peak}")
    _write(report)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description="Throughput and latency of pgseal.")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="under three minutes: one round of short runs, five of what is promised",
    )
    parser.add_argument("--seconds", type=float, help="of each pgbench run")
    parser.add_argument("--rounds", type=int, help="how often each run is repeated")
    parser.add_argument("--rows", type=int, default=N_ROWS_READ, help="of the long read")
    parser.add_argument("--copy-bytes", type=int, default=N_BYTES_COPIED, help="of the COPY out and in")
    arguments = parser.parse_args()
    arguments.seconds = int(arguments.seconds or (1 if arguments.quick else 6))
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    return arguments


def _pgbench_rounds(built: Stage, seconds: int, n_rounds: int, console: Console) -> Rounds:
    program = built.server.tool("pgbench")
    rounds: Rounds = defaultdict(list)
    for number in range(max(n_rounds, N_PROMISED_ROUNDS)):
        for mode, n_clients in product(MODES, CLIENTS):
            is_promised = (mode, n_clients) == PROMISED
            if number >= n_rounds and not is_promised:
                continue
            console.print(f"round {number + 1}: {mode}, {n_clients} clients", style="dim")
            length_s = max(seconds, 2) if is_promised else seconds
            runs = {t.name: pgbench(program, t, mode, n_clients, length_s) for t in built.targets}
            rounds[mode, n_clients].append(runs)
    return rounds


def _read_rounds(built: Stage, n_rounds: int, console: Console) -> list[dict[str, Read]]:
    reads = []
    for number in range(n_rounds):
        console.print(f"round {number + 1} of {n_rounds}: long read", style="dim")
        reads.append({target.name: read_rows(target) for target in built.targets})
    return reads


def _copies(built: Stage, n_bytes: int, console: Console) -> list[Copied]:
    console.print("COPY out of and into an unprotected table", style="dim")
    return [copy_both_ways(target, n_bytes) for target in built.targets if target.table == "plain"]


def _ratios(rounds: Rounds, reads: list[dict[str, Read]]) -> dict[str, float]:
    """Throughput against direct and PgBouncer; for the read, time against direct (1.0 is as fast)."""
    found: dict[str, float] = {}
    for (mode, n_clients), each in rounds.items():
        for name in ("unprotected", "protected", "pgbouncer"):
            for base in ("direct", "pgbouncer"):
                if name != base and name in each[0] and base in each[0]:
                    ratio = statistics.median(one[name].tps / one[base].tps for one in each)
                    found[f"{name}_{mode}_{n_clients}_vs_{base}"] = round(ratio, 3)
    labels = {"protected": "read_1m_rows_one_protected", "unprotected": "read_1m_rows_unprotected"}
    for name, label in labels.items():
        for base in ("direct", "pgbouncer"):
            if base in reads[0]:
                ratio = statistics.median(one[name].seconds / one[base].seconds for one in reads)
                found[f"{label}_vs_{base}"] = round(ratio, 3)
    return found


def _print(rounds: Rounds, reads: list[dict[str, Read]], ratios: dict[str, float]) -> None:
    table = Table(*HEADINGS)
    for (mode, n_clients), each in rounds.items():
        for name in each[0]:
            runs = [one[name] for one in each]
            middle = sorted(runs, key=lambda run: run.tps)[len(runs) // 2]
            table.add_row(
                mode,
                str(n_clients),
                name,
                f"{middle.tps:,.0f}",
                *(f"{value:.2f}" for value in (middle.p50_ms, middle.p95_ms, middle.p99_ms)),
                *(_ratio(ratios, f"{name}_{mode}_{n_clients}_vs_{base}") for base in ("direct", "pgbouncer")),
                f"{middle.cpu_us:.0f} us" if middle.cpu_us is not None else "",
                f"{middle.rss_bytes / 1e6:.0f}" if middle.rss_bytes is not None else "",
            )
    long = Table("read of rows", "road", "seconds", "peak MB", title="long read")
    for name, read in reads[-1].items():
        middle_s = statistics.median(one[name].seconds for one in reads)
        peak = max(one[name].peak_rss_bytes or 0 for one in reads)
        long.add_row(f"{read.n_rows:,}", name, f"{middle_s:.2f}", f"{peak / 1e6:.0f}" if peak else "")
    console = Console(width=130)
    console.print(table)
    console.print(long)
    for name in sorted(ratios):
        if "16_vs_pgbouncer" in name or name.startswith("read"):
            console.print(f"{name}: {ratios[name]}")


def _ratio(ratios: dict[str, float], name: str) -> str:
    return f"{ratios[name]:.2f}" if name in ratios else ""


def _write(report: dict[str, object]) -> None:
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(report, indent=1) + "\n"
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for name in (f"{stamp}.json", "latest.json"):
        (RESULTS / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
