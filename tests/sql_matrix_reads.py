"""Cases of the matrix of SQL: set operations, grouping, joins and comparisons.

One reason to change: such a form is promised, or no longer refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.sql_cases import Case

CASES: Final[Sequence[Case]] = ()
