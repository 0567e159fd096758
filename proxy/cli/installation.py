"""What most commands begin with: the configuration file, the rules beside it, and a way to each database.

One reason to change: how a command finds its installation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from proxy.config import Config, Provider, load_config
from proxy.errors import ConfigError
from proxy.keys.kms.aws import AwsKms
from proxy.keys.kms.base import Kms
from proxy.keys.kms.local import load_local
from proxy.rules import Ruleset
from proxy.rules_load import load_rules
from proxy.rules_lock import LOCK_NAME
from proxy.service.connection import ServiceTarget

DEFAULT: Final = Path("pgseal.yaml")
CONFIG: Final = typer.Option(DEFAULT, "--config", "-c", metavar="FILE", help="The configuration file.")
ENV_SECURITY: Final = typer.Option(
    False, "--allow-env-security", help="Let PGSEAL_ environment variables change security settings too."
)


@dataclass(frozen=True, slots=True)
class Installation:
    """A configuration with the rules it names, by database."""

    path: Path
    config: Config
    rules: Mapping[str, Ruleset]
    allow_env_security: bool = False

    @property
    def folder(self) -> Path:
        return self.path.absolute().parent

    def again(self) -> Installation:
        """The same files, read anew."""
        return load(self.path, self.allow_env_security)

    @property
    def lock_path(self) -> Path:
        """rules.lock lies with the rules."""
        rules = self.config.rules
        return (rules if rules.is_dir() else rules.parent) / LOCK_NAME

    def weaknesses(self) -> tuple[str, ...]:
        """What is weaker than it could be: in the configuration, and that there is nothing to protect."""
        no_rules = () if self.rules else (f"{self.config.rules} holds no rules: no column is protected",)
        return (*no_rules, *self.config.weaknesses())

    def target(self, database: str | None = None) -> ServiceTarget:
        """The service log-in's way to a database; None: the key store's."""
        return ServiceTarget(self.config.service, self.folder, database)


def load(path: Path, allow_env_security: bool = False) -> Installation:
    """ConfigError with every problem of both files."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file", hint="pgseal init makes one; --config names another")
    config = load_config(path, os.environ, allow_env_security=allow_env_security)
    return Installation(path, config, read_rules(config), allow_env_security)


def read_rules(config: Config) -> dict[str, Ruleset]:
    """The rules by database; none where the folder has none yet."""
    if not config.rules.exists():
        raise ConfigError(
            f"{config.rules}: there are no rules", hint="pgseal init proposes some; see docs/rules.md"
        )
    return load_rules(config.rules, config.service.database)


def open_kms(config: Config) -> dict[str, Kms]:
    """Every KEK of the configuration, by alias; ConfigError for the first one that cannot be used."""
    return {alias: open_kek(config, alias) for alias in config.kms}


def open_kek(config: Config, alias: str) -> Kms:
    """One KEK; ConfigError where its file or its settings cannot be used."""
    kms = config.kms[alias]
    match kms.provider:
        case Provider.LOCAL:
            assert kms.keyfile is not None
            hosts = (config.server.host, config.service.host)
            return load_local(alias, kms.keyfile, server_hosts=hosts, allow_local=kms.allow_local)
        case Provider.AWS:
            assert kms.key is not None
            return AwsKms(alias, kms.key, region=kms.region, endpoint=kms.endpoint)


def main_alias(config: Config) -> str:
    """The KEK that new keys are wrapped with: `main`, else the first one written."""
    return "main" if "main" in config.kms else next(iter(config.kms))
