"""The engine of regular expressions: `re`, or `regex` on a Python whose `re` cannot be trusted.

Possessive quantifiers and atomic groups came with Python 3.11, and up to 3.11.4 they may match wrongly and give
wrong spans of groups (CPython issues 101955 and 106052); Debian 12 ships 3.11.2. What reads SQL or values with
such an expression takes its engine from here. One reason to change: which engines are right.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

FIRST_RIGHT: Final = (3, 11, 5)

if TYPE_CHECKING or sys.version_info >= FIRST_RIGHT:
    import re
else:
    import regex as re

__all__ = ["re"]
