"""Settings in the `options` of a StartupMessage, as in `-c app.tenant_id=north --search_path=app`.

The server splits the text at white space, where a backslash takes the next character as it is, and reads the
words as switches of `postgres`: letters may stand together, and one with a value takes the rest of its word or
the next word. What it does not understand makes it refuse the log-in, so nothing here has to.

Sources: PostgreSQL manual, "Frontend/Backend Protocol", StartupMessage, and "postgres", Options. One reason to
change: the switches of `postgres`.
"""

from __future__ import annotations

import re
from typing import Final

_WITH_VALUE: Final = frozenset("BCcDdfhkNprStvW-")
_WORD: Final = re.compile(r"(?:\\.|[^\\\s])+\\?", re.DOTALL | re.ASCII)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def settings_of(options: str) -> dict[str, str]:
    """Names (lower case) and values; the last of a name holds."""
    words = [_ESCAPED.sub(r"\1", word) for word in _WORD.findall(options)]
    found: dict[str, str] = {}
    position = 0
    while position < len(words):
        switch, value, used = _switch(words, position)
        name, equals, text = value.partition("=")
        if switch in ("c", "-") and equals:
            found[name.replace("-", "_").lower()] = text
        position += used
    return found


def _switch(words: list[str], position: int) -> tuple[str, str, int]:
    """The first switch with a value in this word, its value, and how many words they are."""
    word = words[position]
    if not word.startswith("-"):
        return "", "", 1
    for index, letter in enumerate(word[1:], 2):
        if letter not in _WITH_VALUE:
            continue
        if index < len(word):
            return letter, word[index:], 1
        following = words[position + 1] if position + 1 < len(words) else ""
        return letter, following, 2
    return "", "", 1
