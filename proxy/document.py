"""A YAML file as plain values, each with its line: what configuration and rules are read from.

The node tree is composed, never constructed, so that no tag makes an object, every key keeps its line and a
duplicate key is seen. Scalars are read by a narrow core schema in which writing a value again gives its text
(`true`, `false`, `null`, decimal integers; everything else is a string, so `off`, `1.50` and `12:30` stay as
written). Size, depth and the number of nodes after aliases are bounded. One reason to change: what of YAML
is taken. Refusals are `ConfigError`s that say file and line, never the value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from proxy.errors import ConfigError

Scalar = str | int | bool | None
Value = Scalar | list["Value"] | dict[str, "Value"]
Location = tuple[str | int, ...]

MAX_FILE_SIZE: Final = 1024 * 1024
MAX_DEPTH: Final = 32
MAX_NODES: Final = 100_000
_LOOK: Final = "look at the indentation (spaces, no tabs), brackets and quotes there and in the line before"

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})\Z")
_WORDS: Final[Mapping[str, Scalar]] = {"": None, "~": None, "null": None, "true": True, "false": False}
_TAGS: Final = {
    "tag:yaml.org,2002:str",
    "tag:yaml.org,2002:null",
    "tag:yaml.org,2002:bool",
    "tag:yaml.org,2002:int",
    "tag:yaml.org,2002:float",
    "tag:yaml.org,2002:timestamp",
    "tag:yaml.org,2002:value",
    "tag:yaml.org,2002:map",
    "tag:yaml.org,2002:seq",
}


@dataclass(frozen=True, slots=True)
class Document:
    """`root` is a mapping; `places` gives each key and item, by its path of keys, its `file:line`."""

    file: str
    root: dict[str, Value]
    places: Mapping[Location, str]

    def at(self, location: Location) -> str:
        """`file:line` of a location, or of the nearest thing around it."""
        while location not in self.places and location:
            location = location[:-1]
        return self.places.get(location, f"{self.file}:1")

    def get(self, location: Location) -> Value:
        """The value at a location, None where there is none."""
        value: Value = self.root
        for step in location:
            if isinstance(value, dict) and isinstance(step, str):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value


def read_document(path: Path) -> Document:
    """Read one YAML file, a mapping at its top."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or 'unknown reason'}") from None
    return parse_document(raw, str(path))


def parse_document(raw: bytes, file: str) -> Document:
    """YAML text -> values with lines. Anything malformed, too large or ambiguous is a ConfigError."""
    if len(raw) > MAX_FILE_SIZE:
        raise ConfigError(f"{file}: larger than {MAX_FILE_SIZE} bytes")
    try:
        node = yaml.SafeLoader(raw.decode("utf-8")).get_single_node()
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}:{line}: {error.problem or 'is not YAML'}; {_LOOK}") from None
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"{file}: is not YAML") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply") from None
    if node is None:
        return Document(file, {}, {})
    reader = _Reader(file)
    root = reader.value(node, ())
    if not isinstance(root, dict):
        raise ConfigError(f"{file}:1: must be a mapping of keys")
    return Document(file, root, reader.places)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the known words when there are few, or nothing."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known here: {', '.join(known)}" if 0 < len(known) <= 20 else ""


def scalar(text: str) -> Scalar:
    """A plain scalar by the core schema above; also how an environment variable is read."""
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if _INTEGER.match(text) else text


@dataclass(slots=True)
class _Reader:
    file: str
    places: dict[Location, str] = field(default_factory=dict)
    n_nodes: int = 0

    def value(self, node: yaml.Node, location: Location) -> Value:
        line = node.start_mark.line + 1
        self.places.setdefault(location, f"{self.file}:{line}")
        self.n_nodes += 1
        if self.n_nodes > MAX_NODES or len(location) > MAX_DEPTH:
            raise ConfigError(f"{self.file}:{line}: too many or too deeply nested values (aliases count)")
        if node.tag not in _TAGS:
            raise ConfigError(f"{self.file}:{line}: YAML tags and merge keys are not taken here")
        match node:
            case yaml.MappingNode():
                return self._mapping(node, location)
            case yaml.SequenceNode():
                return [self.value(item, (*location, i)) for i, item in enumerate(node.value)]
            case yaml.ScalarNode():
                text = str(node.value)
                if any("\ud800" <= letter <= "\udfff" for letter in text):
                    raise ConfigError(f"{self.file}:{line}: half a surrogate pair is no character")
                return scalar(text) if node.style is None else text
            case _:
                raise ConfigError(f"{self.file}:{line}: is not YAML")

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Value]:
        result: dict[str, Value] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _TAGS:
                raise ConfigError(f"{self.file}:{line}: a key must be a word")
            key = str(key_node.value)
            if not key.isprintable():
                raise ConfigError(f"{self.file}:{line}: a key holds a character that cannot be printed")
            if key in result:
                raise ConfigError(f"{self.file}:{line}: '{key[:64]}' is written twice")
            self.places[(*location, key)] = f"{self.file}:{line}"
            result[key] = self.value(value_node, (*location, key))
        return result
