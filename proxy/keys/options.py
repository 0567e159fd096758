"""What a keyring is set to, and what it counts. One reason to change: a setting of `key_cache:` or a metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.keys.calls import KmsStats


@dataclass(frozen=True, slots=True)
class KeyringOptions:
    """Times in seconds. `default_kek` wraps new keys; `negative_s` is how long an error is remembered."""

    default_kek: str
    ttl_s: float = 3600.0
    max_keys: int = 10_000
    stale_s: float = 3600.0
    status_ttl_s: float = 30.0
    negative_s: float = 5.0
    auto_create: bool = True


@dataclass(slots=True)
class KeyringStats:
    """Plain counters for the metrics; `kms` by KEK alias."""

    kms: Mapping[str, KmsStats] = field(default_factory=dict)
    n_hits: int = 0
    n_misses: int = 0
    n_evicted: int = 0
    n_created: int = 0
    n_rotated: int = 0
    n_leases: int = 0
    n_store_reads: int = 0
    n_store_failures: int = 0
    n_tampered: int = 0
