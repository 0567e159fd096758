"""The test vectors, read from the documents that define the formats."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"


def _fenced(page: str, opening: str) -> str:
    found = re.search(rf"^```{opening}\n(.*?)^```", (DOCS / page).read_text(), re.S | re.M)
    assert found is not None, f"docs/{page} has no block {opening!r}"
    return found[1]


@cache
def vectors(page: str) -> Any:
    """The block `json vectors` of a page of docs/."""
    return json.loads(_fenced(page, "json vectors"))


def program(page: str) -> str:
    """The first Python block of a page."""
    return _fenced(page, "python")


def ddl(page: str) -> str:
    """The first SQL block of a page."""
    return _fenced(page, "sql")
