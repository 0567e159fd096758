"""From the configuration to a keyring: the providers of `kms:`, and the store on the service connection.

One reason to change: a provider, or a setting of `kms:` and `key_cache:`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never

from proxy.config import Config, KmsConfig, Provider
from proxy.errors import ConfigError
from proxy.keys.keks import Emit
from proxy.keys.keyring import Keyring, KeyringOptions
from proxy.keys.kms.aws import AwsKms
from proxy.keys.kms.base import Kms
from proxy.keys.kms.local import load_local
from proxy.keys.state_folder import StateFolder
from proxy.keys.store import KeyStore
from proxy.service.connection import ServiceConnection

DEFAULT_KEK: Final = "main"


def open_kms(config: Config) -> dict[str, Kms]:
    """Every provider of `kms:` by alias. ConfigError where one refuses its settings."""
    hosts = (config.server.host, config.service.host)
    return {alias: _open(alias, kms, hosts) for alias, kms in config.kms.items()}


def _open(alias: str, kms: KmsConfig, server_hosts: tuple[str, ...]) -> Kms:
    match kms.provider:
        case Provider.LOCAL:
            assert kms.keyfile is not None
            return load_local(alias, kms.keyfile, server_hosts=server_hosts, allow_local=kms.allow_local)
        case Provider.AWS:
            assert kms.key is not None
            return AwsKms(alias, kms.key, region=kms.region, endpoint=kms.endpoint)
        case _:
            assert_never(kms.provider)


def default_kek(config: Config) -> str:
    """The alias that new keys are made under: `main`, else the only one."""
    if DEFAULT_KEK in config.kms:
        return DEFAULT_KEK
    if len(config.kms) == 1:
        return next(iter(config.kms))
    raise ConfigError("kms: has several KEKs and none is called 'main'", hint="call the one for new keys main")


def open_store(config: Config, connection: ServiceConnection, kms: Mapping[str, Kms]) -> KeyStore:
    """The key store; `initialise(default_kek(config))` makes its head row where there is none."""
    return KeyStore(connection, StateFolder(config.state), kms)


def open_keyring(config: Config, store: KeyStore, kms: Mapping[str, Kms], emit: Emit) -> Keyring:
    """The keyring. `await read()` once at start, then keep `run()` in a task group, `close()` at the end."""
    cache = config.key_cache
    options = KeyringOptions(
        default_kek=default_kek(config),
        ttl_s=cache.ttl_s,
        max_keys=cache.max_keys,
        stale_s=cache.stale_s,
        status_ttl_s=cache.status_ttl_s,
    )
    return Keyring(store, kms, options, emit)
