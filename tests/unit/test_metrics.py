"""Counting, adding up workers, and what a scrape shows; labels come from configuration only."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.metrics import BUCKETS, Counters, CountersCollector, KmsOutcome, Leg, Snapshot, Timing, Verdict, merge

SSN = "public.patients.ssn"


def scrape(*snapshots: Snapshot) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    registry.register(CountersCollector(lambda: snapshots))
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counted() -> Counters:
    counters = Counters([SSN], ["main"])
    counters.n_connections += 3
    counters.n_connections_closed += 1
    counters.n_key_hits += 5
    counters.statements[Verdict.PLANNED] += 2
    counters.bytes[Leg.CLIENT_IN] += 100
    counters.count_sealed(SSN, 4)
    counters.count_opened(SSN)
    counters.count_refusal("PS001")
    counters.count_kms_call("main", KmsOutcome.OK, 0.002)
    counters.observe(Timing.REQUEST, 0.00003)
    return counters


def test_scrape_shows_what_was_counted() -> None:
    """Every kind of counter has its metric, with table and column apart."""
    samples = scrape(counted().snapshot())
    assert samples["pgseal_connections_total", ()] == 3
    assert samples["pgseal_connections_open", ()] == 2
    assert samples["pgseal_statements_total", (("verdict", "planned"),)] == 2
    assert samples["pgseal_cells_sealed_total", (("column", "ssn"), ("table", "public.patients"))] == 4
    assert samples["pgseal_refusals_total", (("sqlstate", "PS001"),)] == 1
    assert samples["pgseal_key_cache_lookups_total", (("result", "hit"),)] == 5
    assert samples["pgseal_bytes_total", (("leg", "client_in"),)] == 100
    assert samples["pgseal_kms_calls_total", (("alias", "main"), ("outcome", "ok"))] == 1
    assert samples["pgseal_request_seconds_count", ()] == 1
    assert samples["pgseal_request_seconds_bucket", (("le", "2.5e-05"),)] == 0
    assert samples["pgseal_request_seconds_bucket", (("le", "5e-05"),)] == 1
    assert samples["pgseal_kms_seconds_count", ()] == 1


def test_scrape_of_several_workers_is_their_sum() -> None:
    """Workers that know other columns add up too."""
    other = Counters(["public.t.a"])
    other.count_sealed("public.t.a")
    samples = scrape(counted().snapshot(), counted().snapshot(), other.snapshot())
    assert samples["pgseal_connections_total", ()] == 6
    assert samples["pgseal_cells_sealed_total", (("column", "a"), ("table", "public.t"))] == 1
    assert samples["pgseal_request_seconds_count", ()] == 2


def test_scrape_without_workers_shows_zeros() -> None:
    """A scrape before the first worker reports is not an error."""
    assert scrape()["pgseal_connections_total", ()] == 0


def test_snapshot_goes_through_json_unchanged() -> None:
    """A worker's snapshot crosses a pipe."""
    snapshot = counted().snapshot()
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert merge([snapshot])["sealed"] == snapshot["sealed"]


@given(st.lists(st.text(), max_size=50))
def test_labels_of_traffic_never_appear(names: list[str]) -> None:
    """Columns, codes and aliases that configuration does not know count as other."""
    counters = Counters([SSN], ["main"])
    before = scrape(counters.snapshot()).keys()
    for name in names:
        counters.count_sealed(f"canary{name}")
        counters.count_opened(f"canary{name}")
        counters.count_refusal(f"canary{name}")
        counters.count_kms_call(f"canary{name}", KmsOutcome.FAILED, 0.1)
    samples = scrape(counters.snapshot())
    assert samples.keys() == before
    assert samples["pgseal_cells_sealed_total", (("column", "other"), ("table", "other"))] == len(names)


def test_know_columns_after_a_change_of_rules_keeps_counts() -> None:
    """Counters never go back; a new column starts at zero."""
    counters = counted()
    counters.know_columns([SSN, "public.t.new"])
    assert (counters.sealed[SSN], counters.sealed["public.t.new"]) == (4, 0)


def test_columns_beyond_the_bound_count_as_other() -> None:
    """Rules with very many columns do not make metrics unbounded."""
    counters = Counters(f"public.t.c{i}" for i in range(5000))
    counters.count_sealed("public.t.c4999")
    assert len(counters.sealed) == 2000
    assert counters.sealed["other"] == 1


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=50))
def test_histogram_counts_each_observation_once(seconds: list[float]) -> None:
    """A bucket holds what is at most its bound; together they hold all."""
    counters = Counters()
    for value in seconds:
        counters.observe(Timing.REPLY, value)
    counts = counters.snapshot()["histograms"]["reply"]["counts"]
    assert sum(counts) == len(seconds)
    for i, bound in enumerate(BUCKETS):
        assert sum(counts[: i + 1]) == sum(value <= bound for value in seconds)
