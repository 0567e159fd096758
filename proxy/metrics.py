"""What pgseal counts: plain integers on the hot path, turned into Prometheus metrics only when scraped.

One `Counters` a worker, without locks, since one thread owns it. A snapshot is plain JSON, so that the process
that supervises can add those of several workers. Label values come from configuration (columns of the rules, KEK
aliases, the SQLSTATEs of the error tree), never from traffic: what is not known counts as `other`. There is no
tenant label. One reason to change: what is counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from proxy import errors

# Seconds; the latency that the proxy itself adds is tens of microseconds.
BUCKETS: Final = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025,
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
)  # fmt: skip
OTHER: Final = "other"
MAX_LABELS: Final = 2000

Snapshot = dict[str, Any]


class Verdict(Enum):
    IRRELEVANT = "irrelevant"
    PLANNED = "planned"
    REFUSED = "refused"


class Leg(Enum):
    CLIENT_IN = "client_in"
    CLIENT_OUT = "client_out"
    SERVER_IN = "server_in"
    SERVER_OUT = "server_out"


class Timing(Enum):
    """REQUEST and REPLY: what the proxy adds on the way to and from the server; SERVER: the server's own time."""

    REQUEST = "request"
    REPLY = "reply"
    SERVER = "server"
    KMS = "kms"


class KmsOutcome(Enum):
    OK = "ok"
    FAILED = "failed"


def known_sqlstates() -> frozenset[str]:
    """Every SQLSTATE of the error tree."""
    return frozenset(
        kind.sqlstate
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PgsealError)
    )


_SQLSTATES: Final = known_sqlstates()


class Histogram:
    """Counts by fixed bucket, the last one open, and the sum in seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum_s += seconds


class Counters:
    """The counters of one worker. Hot code adds to the attributes; everything with a label goes by a method or by
    the integers of a dictionary made beforehand."""

    __slots__ = (
        "bytes",
        "histograms",
        "kms_calls",
        "n_audit_events",
        "n_audit_lost",
        "n_catalog_changes",
        "n_client_in",
        "n_client_out",
        "n_connections",
        "n_connections_closed",
        "n_connections_refused",
        "n_irrelevant",
        "n_key_hits",
        "n_key_misses",
        "n_plan_hits",
        "n_plan_misses",
        "n_planned",
        "n_server_in",
        "n_server_out",
        "observed",
        "opened",
        "refusals",
        "sealed",
        "statements",
    )

    def __init__(self, columns: Iterable[str] = (), kek_aliases: Iterable[str] = ()) -> None:
        self.n_connections = 0
        self.n_connections_closed = 0
        self.n_connections_refused = 0
        self.n_key_hits = 0
        self.n_key_misses = 0
        self.n_plan_hits = 0
        self.n_plan_misses = 0
        self.n_audit_events = 0
        self.n_audit_lost = 0
        self.n_catalog_changes = 0  # transactions with DDL that ended; not exported
        self.n_planned = 0
        self.n_irrelevant = 0  # what sessions count at each statement and chunk, without a look-up
        self.n_client_in = 0
        self.n_client_out = 0
        self.n_server_in = 0
        self.n_server_out = 0
        self.statements: dict[Verdict, int] = dict.fromkeys(Verdict, 0)
        self.bytes: dict[Leg, int] = dict.fromkeys(Leg, 0)
        self.refusals: dict[str, int] = {OTHER: 0}
        self.observed: dict[str, int] = {OTHER: 0}
        self.sealed: dict[str, int] = {OTHER: 0}
        self.opened: dict[str, int] = {OTHER: 0}
        self.kms_calls: dict[tuple[str, KmsOutcome], int] = {
            (alias, outcome): 0 for alias in (*kek_aliases, OTHER) for outcome in KmsOutcome
        }
        self.histograms: dict[Timing, Histogram] = {timing: Histogram() for timing in Timing}
        self.know_columns(columns)

    def know_columns(self, columns: Iterable[str]) -> None:
        """The columns of the rules, as labels; called again when rules change."""
        for column in columns:
            if len(self.sealed) < MAX_LABELS:
                self.sealed.setdefault(column, 0)
                self.opened.setdefault(column, 0)

    def count_sealed(self, column: str, n: int = 1) -> None:
        sealed = self.sealed
        sealed[column if column in sealed else OTHER] += n

    def count_opened(self, column: str, n: int = 1) -> None:
        opened = self.opened
        opened[column if column in opened else OTHER] += n

    def count_refusal(self, sqlstate: str) -> None:
        reason = sqlstate if sqlstate in _SQLSTATES else OTHER
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def count_observed(self, sqlstate: str) -> None:
        """A statement passed that would be refused if its table held cells."""
        reason = sqlstate if sqlstate in _SQLSTATES else OTHER
        self.observed[reason] = self.observed.get(reason, 0) + 1

    def count_kms_call(self, alias: str, outcome: KmsOutcome, seconds: float) -> None:
        key = (alias, outcome) if (alias, outcome) in self.kms_calls else (OTHER, outcome)
        self.kms_calls[key] += 1
        self.histograms[Timing.KMS].observe(seconds)

    def observe(self, timing: Timing, seconds: float) -> None:
        self.histograms[timing].observe(seconds)

    def snapshot(self) -> Snapshot:
        """Everything as plain JSON; keys are the names of metrics, then label values."""
        statements = {verdict.value: n for verdict, n in self.statements.items()}
        statements[Verdict.IRRELEVANT.value] += self.n_irrelevant
        statements[Verdict.PLANNED.value] += self.n_planned
        legs = {leg.value: n for leg, n in self.bytes.items()}
        legs[Leg.CLIENT_IN.value] += self.n_client_in
        legs[Leg.CLIENT_OUT.value] += self.n_client_out
        legs[Leg.SERVER_IN.value] += self.n_server_in
        legs[Leg.SERVER_OUT.value] += self.n_server_out
        return {
            "connections": self.n_connections,
            "connections_closed": self.n_connections_closed,
            "connections_refused": self.n_connections_refused,
            "key_cache": {"hit": self.n_key_hits, "miss": self.n_key_misses},
            "plan_cache": {"hit": self.n_plan_hits, "miss": self.n_plan_misses},
            "audit_events": self.n_audit_events,
            "audit_lost": self.n_audit_lost,
            "statements": statements,
            "bytes": legs,
            "refusals": dict(self.refusals),
            "observed": dict(self.observed),
            "sealed": dict(self.sealed),
            "opened": dict(self.opened),
            "kms_calls": {f"{alias} {outcome.value}": n for (alias, outcome), n in self.kms_calls.items()},
            "histograms": {
                timing.value: {"counts": list(histogram.counts), "sum_s": histogram.sum_s}
                for timing, histogram in self.histograms.items()
            },
        }


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of several workers' snapshots."""
    total: Snapshot = Counters().snapshot()
    for snapshot in snapshots:
        total = _add(total, snapshot)
    return total


def _add(one: Any, other: Any) -> Any:
    match one:
        case dict():
            both = one.keys() & other.keys()
            return {**one, **other, **{key: _add(one[key], other[key]) for key in both}}
        case list():
            return [left + right for left, right in zip(one, other, strict=True)]
        case _:
            return one + other


class CountersCollector(Collector):
    """What a Prometheus registry asks at each scrape; `read` gives the snapshots of all workers."""

    def __init__(self, read: Callable[[], Iterable[Snapshot]]) -> None:
        self._read = read

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        snapshot = merge(self._read())
        n_open = snapshot["connections"] - snapshot["connections_closed"]
        yield GaugeMetricFamily("pgseal_connections_open", "Client connections now.", value=n_open)
        for name, text in _PLAIN.items():
            yield CounterMetricFamily(f"pgseal_{name}", text, value=snapshot[name])
        for name, (label, text) in _LABELLED.items():
            yield _labelled(f"pgseal_{_NAMES.get(name, name)}", text, label, snapshot[name])
        for side in ("sealed", "opened"):
            yield _by_column(f"pgseal_cells_{side}", f"Cells {side}, by column of the rules.", snapshot[side])
        yield _kms(snapshot["kms_calls"])
        for timing, text in _TIMINGS.items():
            yield _histogram(f"pgseal_{timing.value}_seconds", text, snapshot["histograms"][timing.value])


_PLAIN: Final = {
    "connections": "Client connections accepted.",
    "connections_refused": "Client connections refused before or at log-in.",
    "audit_events": "Audit events written.",
    "audit_lost": "Audit events that could not be kept.",
}
_LABELLED: Final = {
    "statements": ("verdict", "Statements by verdict of planning."),
    "refusals": ("sqlstate", "Refused statements by SQLSTATE."),
    "observed": ("sqlstate", "Statements passed by on_unsupported: observe, by the SQLSTATE they would get."),
    "key_cache": ("result", "Look-ups of data keys in the cache."),
    "plan_cache": ("result", "Look-ups of plans in the cache."),
    "bytes": ("leg", "Bytes read and written by leg."),
}
_NAMES: Final = {"key_cache": "key_cache_lookups", "plan_cache": "plan_cache_lookups"}
_TIMINGS: Final = {
    Timing.REQUEST: "Latency that pgseal adds to a request.",
    Timing.REPLY: "Latency that pgseal adds to a reply.",
    Timing.SERVER: "Time between the last byte of a request to the server and its first reply.",
    Timing.KMS: "Latency of KMS calls.",
}


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, n in sorted(values.items()):
        family.add_metric([value], n)
    return family


def _by_column(name: str, text: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=["table", "column"])
    for label, n in sorted(values.items()):
        family.add_metric(_table_and_column(label), n)
    return family


def _table_and_column(label: str) -> list[str]:
    """`schema.table.column` (a column's own name may have dots) -> table, column; `other` stands for both."""
    parts = label.split(".", 2)
    return [f"{parts[0]}.{parts[1]}", parts[2]] if len(parts) == 3 else [label, label]


def _kms(calls: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily("pgseal_kms_calls", "KMS calls by KEK alias.", labels=["alias", "outcome"])
    for key, n in sorted(calls.items()):
        family.add_metric(key.rsplit(" ", 1), n)
    return family


def _histogram(name: str, text: str, histogram: Mapping[str, Any]) -> HistogramMetricFamily:
    buckets, n = [], 0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), histogram["counts"], strict=True):
        n += count
        buckets.append((bound, n))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram["sum_s"])
