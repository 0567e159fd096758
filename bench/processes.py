"""CPU time and memory of a process with its children, and what machine this is, from /proc.

One reason to change: what is read of a process.
"""

from __future__ import annotations

import os
import platform
import sysconfig
import threading
from pathlib import Path
from typing import Self

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for parent in found:
        listing = Path(f"/proc/{parent}/task/{parent}/children")
        if listing.exists():
            found += [int(child) for child in listing.read_text().split()]
    return found


def cpu_s(pid: int) -> float:
    """User and system time so far of the tree."""
    total = 0.0
    for each in tree(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rsplit(") ", 1)[1].split()
        except FileNotFoundError:
            continue
        total += (int(fields[11]) + int(fields[12])) * _TICK_S
    return total


def rss_bytes(pid: int) -> int:
    """Resident memory of the largest process of the tree."""
    return max(map(_rss, tree(pid)))


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0


class PeakMemory:
    """The most resident memory a tree had between `with` and its end, sampled 50 times a second."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, rss_bytes(self._pid))


def machine() -> dict[str, object]:
    """For the results: figures of other machines do not compare."""
    model = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "cpu": model[0] if model else platform.processor(),
        "n_cpus": os.cpu_count(),
        "memory_bytes": int(memory[0]) * 1024 if memory else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "python_is_optimised": "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")),
        "load_before": os.getloadavg(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
