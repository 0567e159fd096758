"""From a configuration file to providers and options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config import Config, load_config
from proxy.errors import ConfigError
from proxy.keys.kms.aws import AwsKms
from proxy.keys.kms.local import LocalKms, create_keyfile
from proxy.keys.start import default_kek, open_keyring, open_kms, open_store
from proxy.service.connection import ServiceConnection, ServiceTarget

PAGE = """
state: state
rules: rules
service: postgresql://pgseal@127.0.0.1/app
server: {{host: 127.0.0.1, tls: disable}}
kms: {kms}
key_cache: {{ttl: 10m, max_keys: 99, stale_while_kms_down: 20m, status_ttl: 7s}}
"""
LOCAL = "{provider: local, keyfile: kek}"
AWS = "{provider: aws, key: alias/pgseal, region: eu-central-1, endpoint: 'http://127.0.0.1:1'}"


def config(folder: Path, kms: str) -> Config:
    """A configuration with this `kms:`."""
    (folder / "pgseal.yaml").write_text(PAGE.format(kms=kms))
    return load_config(folder / "pgseal.yaml", {})


async def test_open_kms_makes_each_provider(tmp_path: Path) -> None:
    """One object an alias, by its provider."""
    create_keyfile(tmp_path / "kek")
    found = open_kms(config(tmp_path, f"{{main: {LOCAL}, cloud: {AWS}}}"))
    assert isinstance(found["main"], LocalKms) and isinstance(found["cloud"], AwsKms)
    assert {alias: kms.alias for alias, kms in found.items()} == {"main": "main", "cloud": "cloud"}
    for kms in found.values():
        await kms.close()


def test_open_kms_without_its_key_file_says_so(tmp_path: Path) -> None:
    """A missing KEK stops the start."""
    with pytest.raises(ConfigError, match="key file"):
        open_kms(config(tmp_path, f"{{main: {LOCAL}}}"))


def test_default_kek_is_main_or_the_only_one(tmp_path: Path) -> None:
    """Which KEK new keys are made under is never a guess."""
    assert default_kek(config(tmp_path, f"{{cloud: {AWS}}}")) == "cloud"
    assert default_kek(config(tmp_path, f"{{cloud: {AWS}, main: {LOCAL}}}")) == "main"
    with pytest.raises(ConfigError, match="main"):
        default_kek(config(tmp_path, f"{{cloud: {AWS}, other: {AWS}}}"))


async def test_open_keyring_takes_the_times_of_key_cache(tmp_path: Path) -> None:
    """Durations and bound come from the file."""
    create_keyfile(tmp_path / "kek")
    settings = config(tmp_path, f"{{main: {LOCAL}}}")
    kms = open_kms(settings)
    store = open_store(settings, ServiceConnection(ServiceTarget(settings.service)), kms)
    options = open_keyring(settings, store, kms, lambda _event: None).options
    assert options == replace(
        options, default_kek="main", ttl_s=600.0, max_keys=99, stale_s=1200.0, status_ttl_s=7.0
    )
