"""Which changes of configuration and rules a serving proxy takes: none that lowers protection.

One reason to change: what may change without a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from proxy.cli.installation import Installation
from proxy.errors import ConfigError
from proxy.rules import Ruleset
from proxy.rules_lock import is_weaker

# what a worker was started with and cannot exchange while it serves
FIXED: Final = (
    "listen",
    "state",
    "service",
    "kms",
    "rules",
    "workers",
    "audit",
    "http",
    "max_message_size",
    "key_cache",
)


def refuse_weaker(before: Installation, now: Installation) -> None:
    """ConfigError where `now` protects less than `before`, or needs a restart."""
    fixed = [name for name in FIXED if getattr(before.config, name) != getattr(now.config, name)]
    if fixed:
        raise ConfigError(f"{now.path}: a change of {', '.join(fixed)} needs a restart")
    weaker = [text for text in now.config.weaknesses() if text not in before.config.weaknesses()]
    if weaker:
        raise ConfigError("; ".join(f"{now.path}: {text}" for text in weaker), hint="it needs a restart")
    refuse_weaker_rules(before.rules, now.rules)


def refuse_weaker_rules(before: Mapping[str, Ruleset], now: Mapping[str, Ruleset]) -> None:
    """ConfigError naming every loss of protection."""
    found = [
        text
        for database, rules in before.items()
        for text in (
            is_weaker(rules, now[database]) if database in now else [f"the rules of {database} are gone"]
        )
    ]
    if found:
        raise ConfigError(
            f"the rules protect less than before: {'; '.join(found)}",
            hint="if that is meant, run pgseal check --approve and restart",
        )


def watched_state(installation: Installation) -> tuple[tuple[str, int, int], ...]:
    """Name, time and size of each rules file: another tuple when one has changed."""
    rules = installation.config.rules
    files = sorted(rules.glob("*.y*ml")) if rules.is_dir() else [rules]
    return tuple(mark for path in files if (mark := _mark(path)))


def _mark(path: Path) -> tuple[str, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return path.name, found.st_mtime_ns, found.st_size
