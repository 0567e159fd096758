"""Random statements over a random world, as text with ?n for values.

What is drawn first is what hypothesis shrinks to, so that the simplest form stands first everywhere. Statements
whose answer PostgreSQL itself leaves open (LIMIT without an order, UPDATE FROM with several matches) are not
made. One reason to change: which forms of SQL are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from hypothesis import strategies as st

from tests.random_schema import TENANTS, RandomColumn, RandomTable, World

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[T]], T]


@dataclass(frozen=True, slots=True)
class RandomStatement:
    """`values` are text; `?1` is the first."""

    sql: str
    values: tuple[str | None, ...]


@dataclass(slots=True)
class Source:
    """Something in FROM: an alias and the columns it shows."""

    alias: str
    columns: tuple[RandomColumn, ...]
    has_org: bool

    def sealed(self) -> list[RandomColumn]:
        return [column for column in self.columns if column.is_sealed]


@dataclass(slots=True)
class Writer:
    """Draws the parts of one statement."""

    draw: Draw
    world: World
    values: list[str | None] = field(default_factory=list)
    tenant: str = TENANTS[0]

    # --- choices

    def pick(self, choices: Sequence[T]) -> T:
        return self.draw(st.sampled_from(list(choices)))

    def chance(self, percent: int) -> bool:
        """False is the simple case."""
        return self.draw(st.integers(0, 99)) >= 100 - percent

    def some(self, choices: Sequence[T], least: int = 1, most: int = 3) -> list[T]:
        return self.draw(st.lists(st.sampled_from(list(choices)), min_size=least, max_size=most))

    # --- values

    def value(self, column: RandomColumn) -> str:
        """A placeholder for a value of the column's type, sometimes with a cast, seldom NULL."""
        self.values.append(None if self.chance(8) else self.pick(column.values))
        place = f"?{len(self.values)}"
        return f"{place}::{column.type}" if self.values[-1] is None or self.chance(15) else place

    def known(self, column: RandomColumn) -> str:
        """A literal that is a value of the type."""
        text = self.pick(column.values[:2]).replace("'", "''")
        return f"'{text}'"

    def source(self, table: RandomTable, alias: str) -> Source:
        return Source(alias, table.all_columns, table.has_org)

    # --- conditions

    def where(self, sources: Sequence[Source], more: Sequence[str] = ()) -> str:
        """Mostly with the tenant beside it where that is a column."""
        parts = [*more]
        for source in sources:
            if source.has_org and any(c.name == "org" for c in source.columns) and not self.chance(15):
                parts.append(f"{source.alias}.org = '{self.tenant}'")
        if not self.chance(25):
            parts.append(self.condition(sources, 0))
        return " WHERE " + " AND ".join(parts) if parts else ""

    def condition(self, sources: Sequence[Source], depth: int) -> str:
        if depth < 2 and self.chance(25):
            one, two = self.condition(sources, depth + 1), self.condition(sources, depth + 1)
            return self.pick([f"({one} AND {two})", f"({one} OR {two})", f"NOT ({one})"])
        source = self.pick(sources)
        column = self.pick([*source.columns[-3:], *source.sealed(), *source.columns])
        return self._test(f"{source.alias}.{column.name}", column, sources)

    def _test(self, name: str, column: RandomColumn, sources: Sequence[Source]) -> str:
        kind = self.pick(
            ("eq", "null", "ne", "in", "any", "distinct", "column", "subquery", "exists", "param", "odd")
        )
        match kind:
            case "eq":
                return f"{name} = {self.value(column)}" if self.chance(80) else f"{self.value(column)} = {name}"
            case "null":
                return f"{name} IS {self.pick(('', 'NOT '))}NULL"
            case "ne":
                return f"{name} <> {self.value(column)}"
            case "in":
                items = ", ".join(self.value(column) for _ in range(self.draw(st.integers(1, 3))))
                return f"{name} {self.pick(('', 'NOT '))}IN ({items})"
            case "any":
                items = ", ".join(self.known(column) for _ in range(self.draw(st.integers(1, 3))))
                array = f"ARRAY[{items}]::{column.type.split('(')[0]}[]"
                return self.pick((f"{name} = ANY({array})", f"{name} <> ALL({array})"))
            case "distinct":
                return f"{name} IS {self.pick(('', 'NOT '))}DISTINCT FROM {self.value(column)}"
            case "column":
                other = self.pick(sources)
                return f"{name} = {other.alias}.{self.pick(other.columns).name}"
            case "subquery" | "exists":
                return self._subquery(name, column, is_exists=kind == "exists")
            case "param":
                place = self.value(column).partition("::")[0]
                if not self.chance(30):
                    place = f"{place}::{column.type}"  # without it PostgreSQL cannot tell the type of a parameter
                return f"({place} IS NULL OR {name} = {place})"
            case _:
                return self._odd(name, column)

    def _subquery(self, name: str, column: RandomColumn, is_exists: bool) -> str:
        table = self.pick(self.world.tables)
        like = [c for c in table.all_columns if c.type == column.type and c.context == column.context]
        other = self.pick(like or table.all_columns).name
        tenant = f"x.org = '{self.tenant}' AND " if table.has_org and not self.chance(20) else ""
        if is_exists:
            return f"EXISTS (SELECT 1 FROM {table.name} x WHERE {tenant}x.{other} = {name})"
        return f"{name} IN (SELECT x.{other} FROM {table.name} x WHERE {tenant}x.id < 4)"

    def _odd(self, name: str, column: RandomColumn) -> str:
        """Refused over a sealed column, fine over a plain one of that type."""
        return self.pick(
            (
                f"{name} < {self.value(column)}",
                f"{name}::text LIKE 'a%'",
                f"length({name}::text) > 2",
                f"({name}, 1) = ({self.value(column)}, 1)",
                f"{name} BETWEEN {self.value(column)} AND {self.value(column)}",
            )
        )

    # --- results

    def results(self, sources: Sequence[Source]) -> str:
        if not self.chance(70):
            return ", ".join(f"{source.alias}.*" for source in sources) if self.chance(50) else "*"
        items = [self.result(self.pick(sources)) for _ in range(self.draw(st.integers(1, 4)))]
        return ", ".join(f"{item} AS r{n}" if self.chance(20) else item for n, item in enumerate(items))

    def result(self, source: Source) -> str:
        column = self.pick([*source.sealed(), *source.columns])
        name = f"{source.alias}.{column.name}"
        return self.pick(
            (
                name,
                f"COALESCE({name}, {self.known(column)})",
                f"CASE WHEN {source.alias}.id < 2 THEN {name} END",
                f"CASE WHEN {source.alias}.id < 2 THEN {name} ELSE {self.known(column)} END",
                f"{name} IS NULL",
                f"{name} = {self.known(column)}",
                f"{name}::{column.type}",
                f"NULLIF({name}, {self.known(column)})",
                f"({name})::text",
                f"(SELECT y.{column.name} FROM {self._table_with(column).name} y WHERE y.id = {source.alias}.id)",
            )
        )

    def _table_with(self, column: RandomColumn) -> RandomTable:
        return next(t for t in self.world.tables if column in t.all_columns)

    # --- statements

    def statement(self) -> RandomStatement:
        self.tenant = self.pick(TENANTS)
        make = self.pick(
            (
                self.select,
                self.insert,
                self.update,
                self.delete,
                self.aggregate,
                self.union,
                self.copy,
                self.distinct,
                self.joined,
                self.nested,
            )
        )
        return RandomStatement(make(), tuple(self.values))

    def select(self) -> str:
        table = self.pick(self.world.tables)
        sources, text = [self.source(table, "a")], f"{table.name} a"
        match self.pick(("table", "join", "subquery", "cte")):
            case "join":
                joined, on = self._join(sources[0])
                sources.append(joined[1])
                text += f" {self.pick(('JOIN', 'LEFT JOIN', 'RIGHT JOIN'))} {joined[0].name} b ON {on}"
            case "subquery":
                text = f"(SELECT * FROM {table.name} WHERE id < 4) a"
            case "cte":
                head = f"WITH a AS {self.pick(('', 'MATERIALIZED '))}(SELECT * FROM {table.name}) "
                return f"{head}SELECT {self.results(sources)} FROM a{self.where(sources)}"
            case _ if self.chance(20):
                return f"SELECT {self.results(sources)} FROM {text}{self.where(sources)} ORDER BY a.id LIMIT 2"
        return f"SELECT {self.results(sources)} FROM {text}{self.where(sources)}"

    def _join(self, first: Source) -> tuple[tuple[RandomTable, Source], str]:
        table = self.pick(self.world.tables)
        second = self.source(table, "b")
        pairs = [
            (one, two)
            for one in first.sealed()
            for two in second.sealed()
            if one.context == two.context and one.type == two.type
        ]
        if not pairs or not self.chance(50):
            return (table, second), "a.id = b.id"
        one, two = self.pick(pairs)
        tenant = " AND a.org = b.org" if table.has_org else ""
        return (table, second), f"a.{one.name} = b.{two.name}{tenant}"

    def aggregate(self) -> str:
        table = self.pick(self.world.tables)
        source = self.source(table, "a")
        key = self.pick([*source.sealed(), *source.columns]).name
        where = self.where([source])
        return self.pick(
            (
                f"SELECT count(a.{key}), count(*) FROM {table.name} a{where}",
                f"SELECT count(DISTINCT a.{key}) FROM {table.name} a{where}",
                f"SELECT count(*) FROM {table.name} a{where} GROUP BY a.{key}",
                f"SELECT a.{key}, count(*) FROM {table.name} a{where} GROUP BY a.{key}",
                f"SELECT DISTINCT a.{key} FROM {table.name} a{where}",
                f"SELECT a.id, lag(a.{key}) OVER (ORDER BY a.id) FROM {table.name} a{where}",
                f"SELECT a.id, count(*) OVER (PARTITION BY a.{key}) FROM {table.name} a{where}",
                f"SELECT max(a.{key}::text) FROM {table.name} a{where}",
            )
        )

    def union(self) -> str:
        table = self.pick(self.world.tables)
        column = self.pick([*table.sealed, *table.all_columns])
        word = self.pick(("UNION ALL", "UNION", "EXCEPT", "INTERSECT", "UNION DISTINCT", "EXCEPT ALL"))
        beside = self.pick(("", ", q", ", org" if table.has_org else ", id", ", p"))
        one = f"SELECT {column.name}{beside} FROM {table.name}"
        where = self._of_tenant(table, "")
        two = f"SELECT {column.name}{beside} FROM {table.name}{where}"
        if not beside:
            two = self.pick((two, f"SELECT {self.known(column)}", "SELECT NULL"))
        made = f"{one}{where} {word} {two}"
        match self.pick(("set", "three", "subquery", "cte")):
            case "three":
                return f"{made} {self.pick(('UNION', 'UNION ALL'))} {two}"
            case "subquery":
                return f"SELECT u.{column.name} FROM ({made}) u"
            case "cte":
                return f"WITH u AS ({made}) SELECT count(*), count(u.{column.name}) FROM u"
            case _:
                return made

    def _of_tenant(self, table: RandomTable, alias: str) -> str:
        return f" WHERE {alias}org = '{self.tenant}'" if table.has_org and not self.chance(20) else ""

    def distinct(self) -> str:
        """Duplicates of columns and expressions, with and without the tenant among them."""
        table = self.pick(self.world.tables)
        source = self.source(table, "a")
        columns = [self.pick([*table.sealed, *source.columns]).name for _ in range(self.draw(st.integers(1, 3)))]
        if table.has_org and self.chance(30):
            columns.append("org")
        items = ", ".join(f"a.{name}" for name in columns)
        if self.chance(20):
            items += f", {self.result(source)}"
        where = self.where([source])
        return self.pick(
            (
                f"SELECT DISTINCT {items} FROM {table.name} a{where}",
                f"SELECT count(*) FROM (SELECT DISTINCT {items} FROM {table.name} a{where}) d",
                f"SELECT {items}, count(*) FROM {table.name} a{where} GROUP BY {items}",
                f"SELECT {items}, min(a.id) FROM {table.name} a{where} GROUP BY {items} HAVING count(*) > 1",
                f"SELECT a.id, rank() OVER (PARTITION BY {items} ORDER BY a.id) FROM {table.name} a{where}",
                f"SELECT DISTINCT {items}, 1 FROM {table.name} a{where} ORDER BY {len(columns)}",
            )
        )

    def joined(self) -> str:
        """Joins of three, USING, and queries within that name the one around them."""
        table = self.pick(self.world.tables)
        one = self.source(table, "a")
        (other, two), on = self._join(one)
        where = self.where([one, two])
        column = self.pick([*two.sealed(), *two.columns]).name
        items = self.results([one, two])
        key = self.pick([*one.sealed(), *one.columns]).name
        org = " AND c.org = a.org" if table.has_org and not self.chance(20) else ""
        return self.pick(
            (
                f"SELECT {items} FROM {table.name} a JOIN {other.name} b ON {on}{where}",
                f"SELECT {items} FROM {table.name} a FULL JOIN {other.name} b ON {on}{where}",
                f"SELECT a.id, b.{column} FROM {table.name} a, LATERAL"
                f" (SELECT {column} FROM {other.name} x WHERE x.id = a.id) b",
                f"SELECT {key}, a.id FROM {table.name} a JOIN {table.name} b USING ({key})",
                f"SELECT a.id FROM {table.name} a JOIN {table.name} c ON c.{key} = a.{key}{org}",
                f"SELECT a.id FROM {table.name} a WHERE NOT EXISTS"
                f" (SELECT 1 FROM {table.name} c WHERE c.{key} = a.{key} AND c.id <> a.id{org})",
                f"SELECT a.id FROM {table.name} a LEFT JOIN {other.name} b ON {on}"
                f" LEFT JOIN {table.name} c ON c.{key} = a.{key}{org}",
            )
        )

    def nested(self) -> str:
        """What a query within shows is compared, joined and grouped outside it."""
        table = self.pick(self.world.tables)
        source = self.source(table, "a")
        column = self.pick([*table.sealed, *source.columns])
        inner = f"SELECT a.id, {self.result(source)} AS r FROM {table.name} a{self.where([source])}"
        name = f"a.{column.name}"
        return self.pick(
            (
                f"SELECT n.r FROM ({inner}) n",
                f"SELECT DISTINCT n.r FROM ({inner}) n",
                f"SELECT n.r, count(*) FROM ({inner}) n GROUP BY n.r",
                f"WITH n AS ({inner}) SELECT x.r, y.id FROM n x JOIN n y ON x.id = y.id",
                f"WITH n AS ({inner}) SELECT n.r FROM n WHERE n.r = {self.value(column)}",
                f"SELECT {name}, COALESCE({name}, {self.known(column)}), count(*) FROM {table.name} a"
                f"{self._of_tenant(table, 'a.')} GROUP BY {name}",
                f"SELECT NULLIF({name}, {self.value(column)}), a.id FROM {table.name} a"
                f"{self._of_tenant(table, 'a.')}",
                f"WITH RECURSIVE r(i, v) AS (SELECT a.id, {name} FROM {table.name} a WHERE a.id = 0 UNION ALL"
                f" SELECT r.i + 1, r.v FROM r WHERE r.i < 3) SELECT r.i, r.v FROM r",
                f"SELECT v.c FROM (VALUES ({self.known(column)}::{column.type}), (NULL)) v(c)"
                f" JOIN {table.name} a ON v.c = {name}{self._of_tenant(table, 'a.')}",
            )
        )

    def insert(self) -> str:
        table = self.pick(self.world.tables)
        columns = [c for c in table.all_columns if c.name in ("id", "org") or not self.chance(30)]
        n_rows = self.draw(st.integers(1, 3))
        rows = ", ".join(f"({', '.join(self._inserted(c, 10 + n) for c in columns)})" for n in range(n_rows))
        names = ", ".join(c.name for c in columns)
        head = f"INSERT INTO {table.name} AS a ({names}) VALUES {rows}"
        return head + self._conflict(table) + self._returning(table)

    def _inserted(self, column: RandomColumn, number: int) -> str:
        if column.name == "id":
            return str(number - 10 if self.chance(20) else number)
        if column.name == "org":
            return f"'{self.tenant}'"
        if self.chance(10):
            return "DEFAULT"
        return self.value(column)

    def _conflict(self, table: RandomTable) -> str:
        if not self.chance(35):
            return ""
        if not self.chance(60):
            return " ON CONFLICT DO NOTHING"
        column = self.pick([*table.sealed, *table.columns])
        value = self.pick((f"EXCLUDED.{column.name}", self.known(column), f"a.{column.name}", "NULL", "DEFAULT"))
        where = f" WHERE a.org = '{self.tenant}'" if table.has_org and not self.chance(20) else ""
        return f" ON CONFLICT (id) DO UPDATE SET {column.name} = {value}{where}"

    def _returning(self, table: RandomTable) -> str:
        return f" RETURNING {self.results([self.source(table, 'a')])}" if self.chance(40) else ""

    def update(self) -> str:
        table = self.pick(self.world.tables)
        source = self.source(table, "a")
        names = dict.fromkeys(c for c in self.some([*table.sealed, *table.columns, table.all_columns[1]]))
        sets = ", ".join(f"{c.name} = {self._assigned(c, table)}" for c in names)
        more = [f"a.org = '{self.tenant}'"] if table.has_org and not self.chance(20) else []
        return f"UPDATE {table.name} a SET {sets}{self.where([source], more)}{self._returning(table)}"

    def _assigned(self, column: RandomColumn, table: RandomTable) -> str:
        other = self.pick(table.all_columns).name
        return self.pick(
            (
                self.value(column),
                "NULL",
                "DEFAULT",
                f"a.{column.name}",
                f"COALESCE({self.value(column)}, a.{column.name})",
                f"CASE WHEN a.id < 3 THEN {self.known(column)} ELSE a.{column.name} END",
                f"CASE a.id WHEN 1 THEN {self.known(column)}::{column.type} END",
                f"a.{other}",
                f"(SELECT z.{column.name} FROM {table.name} z WHERE z.id = 1)",
                f"upper(a.{column.name}::text)",
            )
        )

    def delete(self) -> str:
        table = self.pick(self.world.tables)
        source = self.source(table, "a")
        return f"DELETE FROM {table.name} a{self.where([source])}{self._returning(table)}"

    def copy(self) -> str:
        """INSERT SELECT from a table of the world."""
        into, table = self.pick(self.world.tables), self.pick(self.world.tables)
        pairs = [(one, self._partner(one, table)) for one in into.all_columns[1:]]
        kept = [
            (one, two) for one, two in pairs if two is not None and (one.name == "org" or not self.chance(20))
        ]
        names = ", ".join(["id", *(one.name for one, _ in kept)])
        items = ", ".join(["a.id + 100", *(two for _, two in kept if two is not None)])
        where = self.where([self.source(table, "a")])
        return f"INSERT INTO {into.name} ({names}) SELECT {items} FROM {table.name} a{where}"

    def _partner(self, column: RandomColumn, table: RandomTable) -> str | None:
        like = [c.name for c in table.all_columns if c.type == column.type and c.context == column.context]
        if like and not self.chance(20):
            return f"a.{column.name}" if column.name in like else f"a.{self.pick(like)}"
        return self.known(column) if self.chance(70) else None


PLACES: Final = ("LITERALS", "TEXT", "PREPARED")


@st.composite
def statements(draw: Draw[RandomStatement], world: World) -> RandomStatement:
    """One statement over the world."""
    return Writer(draw, world).statement()
