"""The session settings that decide what a statement means, through transactions, savepoints and LOCAL.

Values change at the CommandComplete of the statement that set them. A transaction is a stack: its bottom is
what ROLLBACK restores, each savepoint what ROLLBACK TO restores; COMMIT keeps session values and drops local
ones. Temporary facts about relations made by the open transaction (the overlay) live on the same stack.
What the server reports by ParameterStatus wins over the model; it reports no tenant and no search_path
before version 18, so those are believed only from what the client sent and the server confirmed.

Source: PostgreSQL manual, "SET" and "set_config". One reason to change: which settings matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from proxy.session.startup_options import settings_of
from proxy.sql.plan import Effect, EffectKind, Overlay
from proxy.values.base import Settings

if TYPE_CHECKING:
    from proxy.session.statements import Cursor

REPORTED: Final = {
    "client_encoding": "client_encoding",
    "DateStyle": "date_style",
    "IntervalStyle": "interval_style",
    "TimeZone": "time_zone",
}
# Lower-case name -> name in `Settings`, for what SET changes.
OF_VALUES: Final = {
    "client_encoding": "client_encoding",
    "names": "client_encoding",
    "datestyle": "date_style",
    "intervalstyle": "interval_style",
    "timezone": "time_zone",
    "bytea_output": "bytea_output",
    "extra_float_digits": "extra_float_digits",
}
# What the server tells of only with ReadyForQuery: until then a change is known, but not what it came to.
TOLD_LATE: Final = ("client_encoding", "datestyle", "intervalstyle", "timezone")
# What the model knows as exactly as the server's report, which may be older.
MODELLED: Final = ("search_path", "standard_conforming_strings")
NO_OVERLAY: Final = Overlay()
DEFAULT_PATH: Final = '"$user", public'


@dataclass(frozen=True, slots=True)
class Level:
    """One state of everything tracked. Never changed, only replaced, so that a savepoint is a reference."""

    session: Mapping[str, str | None]
    local: Mapping[str, str | None]
    overlay: Overlay = NO_OVERLAY
    current_user: str = ""
    cursors: Mapping[str, Cursor] = field(default_factory=dict)  # over something protected, by name

    def get(self, name: str) -> str | None:
        if name in self.local:
            return self.local[name]
        return self.session.get(name)


class SessionSettings:
    """Owned by one session. `version` rises with every change, so that what is derived can be cached."""

    def __init__(self, user: str, initial: Mapping[str, str]) -> None:
        self._user = user
        self._defaults: dict[str, str | None] = dict(settings_of(initial.get("options", "")))
        self._defaults.update((k.lower(), v) for k, v in initial.items())
        self._level = Level(dict(self._defaults), {}, Overlay(), user)
        self._base = self._level  # what ROLLBACK restores
        self._savepoints: list[tuple[str, Level]] = []
        self._reported: dict[str, str] = {}
        self._values: tuple[int, Settings] | None = None
        self.version = 0
        self.awaits_report = False  # a setting of TOLD_LATE has changed since the last ReadyForQuery

    # --- what others read -------------------------------------------------------------------------

    def get(self, name: str) -> str | None:
        """The value of a tracked setting (any case), or None where it was never set."""
        return self._level.get(name.lower())

    @property
    def level(self) -> Level:
        """Everything tracked, as it is now."""
        return self._level

    @property
    def overlay(self) -> Overlay:
        return self._level.overlay

    @property
    def current_user(self) -> str:
        return self._level.current_user

    @property
    def is_dirty(self) -> bool:
        """True where ending the transaction would change something."""
        return self._level is not self._base

    @property
    def standard_conforming_strings(self) -> bool:
        value = self._reported.get("standard_conforming_strings") or self.get("standard_conforming_strings")
        return value is None or value.lower() in ("on", "true", "yes", "1", "t", "y")

    @property
    def search_path(self) -> tuple[str, ...]:
        """The path as set, "$user" resolved; schemas that do not exist are left in."""
        text = self._reported.get("search_path") or self.get("search_path")
        return tuple(
            self.current_user if name == "$user" else name
            for name in split_identifiers(DEFAULT_PATH if text is None else text)
        )

    def values(self) -> Settings:
        """The settings that decide how values are written on the wire."""
        if self._values is None or self._values[0] != self.version:
            self._values = (self.version, self._make_values())
        return self._values[1]

    def _make_values(self) -> Settings:
        found: dict[str, str] = {}
        for name, attribute in OF_VALUES.items():
            value = self.get(name)
            if value is not None:
                found[attribute] = value
        for name, attribute in REPORTED.items():
            if name in self._reported:
                found[attribute] = self._reported[name]
        digits = found.pop("extra_float_digits", "1")
        settings = replace(Settings(), **found)  # type: ignore[arg-type]  # all str fields
        return replace(settings, extra_float_digits=int(digits) if digits.lstrip("+-").isdigit() else 1)

    # --- what the server said ---------------------------------------------------------------------

    def report(self, name: str, value: str) -> None:
        """A ParameterStatus."""
        self._reported[name] = value
        self.version += 1

    def ready(self) -> None:
        """ReadyForQuery: the server has told of every change before it."""
        self.awaits_report = False

    def _compare(self, before: Level) -> None:
        """Tracked values may have changed since `before`: reports that are older no longer count."""
        after = self._level
        if any(before.get(name) != after.get(name) for name in TOLD_LATE):
            self.awaits_report = True
        for name in MODELLED:
            if before.get(name) != after.get(name):
                self._reported.pop(name, None)

    def load(self, found: Mapping[str, str], current_user: str) -> None:
        """The server's own answer to the probe after log-in."""
        self._defaults.update({k.lower(): v for k, v in found.items()})
        self._level = Level(dict(self._defaults), {}, Overlay(), current_user)
        self._base = self._level
        self.version += 1

    # --- what completed statements do -------------------------------------------------------------

    def apply(self, effect: Effect, value: str | None) -> None:
        """The statement with this effect completed; `value` is the evaluated value of a SET."""
        self.version += 1
        before = self._level
        self._apply(effect, value)
        if self._level is not before:
            self._compare(before)

    def _apply(self, effect: Effect, value: str | None) -> None:
        kind = effect.kind
        if kind is EffectKind.SET:
            self._set(effect.name.lower(), value, is_local=effect.is_local)
        elif kind is EffectKind.RESET:
            self._reset(effect.name.lower())
        elif kind in (EffectKind.SET_ROLE, EffectKind.SET_SESSION_AUTHORIZATION):
            self._level = replace(self._level, current_user=value or self._user)
        elif kind is EffectKind.DISCARD_ALL:
            self._reset("")
            self._level = replace(self._level, current_user=self._user, cursors={})
            self.commit()  # it runs outside blocks only and commits at once, also before an error in its pipeline
        elif kind is EffectKind.OVERLAY and effect.relation is not None:
            self._level = replace(self._level, overlay=Overlay((*self._level.overlay.relations, effect.relation)))
        else:
            self._end_or_mark(kind, effect.name)

    def _end_or_mark(self, kind: EffectKind, name: str) -> None:
        if kind is EffectKind.COMMIT:
            self.commit()
        elif kind is EffectKind.ROLLBACK:
            self.rollback()
        elif kind is EffectKind.SAVEPOINT:
            self._savepoints.append((name, self._level))
        elif kind is EffectKind.RELEASE:
            self._forget_savepoint(name, keep=False)
        elif kind is EffectKind.ROLLBACK_TO:
            self._forget_savepoint(name, keep=True)

    def declare(self, name: str, cursor: Cursor) -> None:
        """A cursor was opened; the end of the transaction ends it unless it is held."""
        self.version += 1
        self._level = replace(self._level, cursors={**self._level.cursors, name: cursor})

    def close(self, name: str) -> None:
        """A cursor was closed, or all of them ("")."""
        cursors = self._level.cursors
        if name in cursors or (cursors and not name):
            left = {known: cursor for known, cursor in cursors.items() if name and known != name}
            self._level = replace(self._level, cursors=left)

    def commit(self) -> None:
        """The transaction ended well: local values and the overlay go, session values stay."""
        before = self._level
        held = {name: cursor for name, cursor in before.cursors.items() if cursor.is_held}
        if before.local or before.overlay.relations or len(held) < len(before.cursors):
            self._level = replace(before, local={}, overlay=Overlay(), cursors=held)
            self._compare(before)
            self.version += 1
        self._base = self._level
        self._savepoints.clear()

    def rollback(self) -> None:
        """The transaction ended badly: everything is as at its begin."""
        before = self._level
        if before is not self._base:
            self._level = self._base
            self._compare(before)
            self.version += 1
        self._savepoints.clear()

    def _set(self, name: str, value: str | None, *, is_local: bool) -> None:
        name = "client_encoding" if name == "names" else name
        new = self._defaults.get(name) if value is None else value
        level = self._level
        if is_local:
            self._level = replace(level, local={**level.local, name: new})
        else:
            local = {k: v for k, v in level.local.items() if k != name}
            self._level = replace(level, session={**level.session, name: new}, local=local)

    def _reset(self, name: str) -> None:
        if name:
            self._set(name, None, is_local=False)
        else:
            self._level = replace(self._level, session=dict(self._defaults), local={})

    def _forget_savepoint(self, name: str, *, keep: bool) -> None:
        for index in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[index][0] != name:
                continue
            if keep:  # ROLLBACK TO: restore, the savepoint itself stays
                self._level = self._savepoints[index][1]
                del self._savepoints[index + 1 :]
            else:
                del self._savepoints[index:]
            return


def split_identifiers(text: str) -> list[str]:
    """A list of identifiers as search_path holds it -> names, quotes undone, unquoted ones folded."""
    names: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char in ", \t\n\r\f":
            position += 1
        elif char == '"':
            name, position = _quoted(text, position + 1)
            names.append(name)
        else:
            end = position
            while end < len(text) and text[end] not in ", \t\n\r\f":
                end += 1
            names.append(text[position:end].lower())
            position = end
    return names


def _quoted(text: str, position: int) -> tuple[str, int]:
    parts: list[str] = []
    while position < len(text):
        end = text.find('"', position)
        if end < 0:
            end = len(text)
        parts.append(text[position:end])
        if text[end + 1 : end + 2] != '"':
            return "".join(parts), end + 1
        parts.append('"')
        position = end + 2
    return "".join(parts), position
