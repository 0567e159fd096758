"""From a checked description to the opener of its rows.

One reason to change: what a sealed column of a result needs to be opened and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from proxy.errors import Unsupported
from proxy.keys.material import KeyView
from proxy.session.cells import OpenColumn, RowOpener
from proxy.session.statements import ReadGrant
from proxy.sql.plan import StatementPlan
from proxy.values.base import Settings
from proxy.values.fast import shower
from proxy.values.registry import codec, type_from_oid
from proxy.wire.backend import Field


def has_sealed_result(plan: StatementPlan) -> bool:
    """Rows of this statement hold cells."""
    return any(result.column is not None for result in plan.results or ())


def make_opener(
    plan: StatementPlan,
    fields: Sequence[Field],
    formats: Sequence[int],
    settings: Settings,
    keys: KeyView,
    grant: ReadGrant,
) -> RowOpener | None:
    """The opener of a result with these fields and formats (one each); None where no column is sealed."""
    columns: list[OpenColumn] = []
    last = -1
    for index, expected in enumerate(plan.results or ()):
        if expected.column is None:
            continue
        is_binary = formats[index] == 1
        own, shown = expected.column.rule.type, expected.type
        show = shower(own if shown is None or shown.name == own.name else shown, is_binary, settings)
        bound = tuple((i, _reader(fields[i], formats[i], settings)) for i in expected.bound)
        columns.append(OpenColumn(expected.column, index - last - 1, is_binary, show, bound))
        last = index
    return RowOpener(columns, len(plan.results or ()), keys, grant) if columns else None


def _reader(field: Field, code: int, settings: Settings) -> Callable[[bytes], bytes]:
    """Wire form of a `bind:` column of the result -> its display form."""
    kind = type_from_oid(field.type_oid, field.typmod)
    if kind is None:
        raise Unsupported("a column named in bind: has a type pgseal does not know")
    found = codec(kind)
    return partial(found.read_binary if code == 1 else found.read_text, settings=settings)
