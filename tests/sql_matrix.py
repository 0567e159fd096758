"""What each form of SQL does over protected columns: the cases of docs and tests, one a row.

`works` are the modes in which the answer equals that of the twin without encryption; in the others the statement
is refused with `sqlstate`, naming `named`. `?1` is a value. One reason to change: a form of SQL is promised,
or no longer refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests import sql_matrix_cursors, sql_matrix_nested, sql_matrix_reads, sql_matrix_relations, sql_matrix_writes
from tests.sql_cases import ALL, BORN, COMPARABLE, NONE, Case, cases
from tests.sql_world import DET, EQ, RND

INSERTS: Final = [
    *cases(
        "INSERT VALUES",
        ALL,
        ("INSERT INTO {t} (id, ssn, pin) VALUES (?1, ?2, ?3)", 20, "111-22-3333", 5),
        ("INSERT INTO {t} (ssn, id) VALUES ('111-22-3333', 20), (?1, 21), (NULL, 22)", "444-55-6666"),
        ("INSERT INTO {t} VALUES (20, 'n', ?1, ?2, ?3, ?4, ?5, 6)", "1-1", "al", 7, BORN, "lead"),
        ("INSERT INTO {t} VALUES (20, 'n', ?1)", "fewer values than columns"),
        ("INSERT INTO {t} (id, ssn, level) VALUES (20, ?1, DEFAULT)", "x"),
        ("INSERT INTO {t} (id, level) VALUES (20, DEFAULT), (21, ?1)", "lead"),
        ("INSERT INTO {t} (id, ssn) VALUES (20, ?1) RETURNING *", "111-22-3333"),
        ("INSERT INTO {t} (id, ssn, born) VALUES (20, ?1, ?2) RETURNING ssn AS s, born, id + 1", "x", BORN),
        ("INSERT INTO public.{t} AS p (id, ssn) VALUES (20, ?1) RETURNING p.ssn", ""),
        ("INSERT INTO {t} (id, ssn, pin, born) VALUES (20, ?1, ?2, ?3)", None, None, None),
        'INSERT INTO "{t}" ("id", "ssn") VALUES (20, \'it\'\'s\' || \'\') RETURNING "ssn"',
        "INSERT INTO {t} (id, ssn) VALUES (20, E'tab\\there') RETURNING ssn",
        "INSERT INTO {t} (id, ssn) VALUES (20, $$dollar$$), (21, $a$q'$a$) RETURNING ssn",
        "INSERT INTO {t} (id, pin) VALUES (20, 2147483647), (21, -2147483648), (22, '12') RETURNING pin",
        "INSERT INTO {t} (id, born) VALUES (20, '2000-02-29'), (21, date '1999-12-31') RETURNING born",
        "INSERT INTO {t} (id, ssn) VALUES (20, 'a'::text), (21, CAST('b' AS varchar)) RETURNING ssn",
        "INSERT INTO {t} (id, alias) VALUES (20, 'x'::varchar(20)) RETURNING alias",
        ("INSERT INTO {t} (id, ssn) VALUES (?1, ?2), (?3, ?4), (?5, ?6)", 20, "a", 21, "b", 22, None),
        ("INSERT INTO {t} (id, ssn) VALUES (?1, ?2::text) RETURNING id, ssn", 20, "cast"),
        ("INSERT INTO {t} (id, ssn, name) VALUES (20, ?1, ?2) /* a comment */ RETURNING name -- tag", "a", "b"),
    ),
    *cases(
        "INSERT SELECT of constants",
        ALL,
        ("INSERT INTO {t} (id, ssn, level) SELECT 20, ?1::text, NULL", "a"),
        "INSERT INTO {t} (id, ssn, level) SELECT 20, 'a', 'x' UNION ALL SELECT 21, 'b', NULL RETURNING id, ssn",
        "INSERT INTO {t} (id, ssn, level) SELECT v.i, v.s, NULL FROM (VALUES (20, 'a'), (21, 'b')) v(i, s)",
        "INSERT INTO {t} (id, ssn, level) SELECT * FROM (VALUES (20, 'a', 'b'), (21, NULL, '')) v RETURNING id",
        "WITH c(i, s) AS (VALUES (20, 'a')) INSERT INTO {t} (id, ssn, level) SELECT i, s, 'x' FROM c",
        "INSERT INTO {o} (id, ssn) SELECT 20, unnest('{a}'::text[])",
        (
            "INSERT INTO {o} (id, ssn) SELECT u.i, u.s FROM unnest(?1::int[], ?2::text[]) u(i, s)",
            [20, 21],
            ["a", None],
        ),
    ),
    *cases(
        "INSERT SELECT of one constant into two contexts",
        NONE,
        "INSERT INTO {t} (id, ssn, level) SELECT v.i, v.s, v.s FROM (VALUES (20, 'a'), (21, 'b')) v(i, s)",
    ),
    *cases(
        "INSERT SELECT of the same context",
        ALL,
        "INSERT INTO {t} (id, ssn, level) SELECT id + 100, ssn, level FROM {t} RETURNING id, ssn, level",
        "INSERT INTO {o} (id, ssn) SELECT id + 100, ssn FROM {t} RETURNING *",
        ("INSERT INTO {o} (id, ssn) SELECT id + 100, ssn FROM {t} WHERE id = ?1", 1),
        "WITH d AS (DELETE FROM {o} RETURNING id, ssn)"
        " INSERT INTO {t} (id, ssn, level) SELECT id + 30, ssn, 'x' FROM d",
    ),
    *cases(
        "INSERT SELECT of something else",
        NONE,
        "INSERT INTO {t} (id, ssn, level) SELECT id + 100, name, NULL FROM {t}",
        "INSERT INTO {t} (id, ssn, level) SELECT id + 100, alias, NULL FROM {t}",
        "INSERT INTO {t} (id, ssn, level) SELECT id + 100, note, NULL FROM visits",
        "INSERT INTO {t} (id, ssn, level) SELECT id + 100, ssn || 'x', NULL FROM {t}",
        "INSERT INTO {t} (id, name, level) SELECT id + 100, ssn, NULL FROM {t}",
        "INSERT INTO visits (id, note) SELECT id + 100, ssn FROM {t}",
    ),
    *cases(
        "ON CONFLICT over plain columns",
        ALL,
        ("INSERT INTO {t} (id, ssn) VALUES (1, ?1) ON CONFLICT DO NOTHING", "new"),
        ("INSERT INTO {t} (id, ssn) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET ssn = ?2", "a", "b"),
        (
            "INSERT INTO {t} (id, ssn, level) VALUES (1, ?1, 'lead'), (20, ?2, 'lead') ON CONFLICT (id)"
            " DO UPDATE SET ssn = EXCLUDED.ssn, level = EXCLUDED.level RETURNING id, ssn, level",
            "a",
            "b",
        ),
        (
            "INSERT INTO {t} AS p (id, ssn) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET"
            " ssn = COALESCE(EXCLUDED.ssn, p.ssn), level = DEFAULT WHERE p.n < ?2 RETURNING *",
            None,
            5,
        ),
    ),
    *cases(
        "ON CONFLICT WHERE over a sealed column",
        COMPARABLE,
        (
            "INSERT INTO {t} AS p (id, ssn) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET ssn = ?1"
            " WHERE p.ssn = ?2 RETURNING id, ssn",
            "new",
            "123-45-6789",
        ),
    ),
    *cases(
        "ON CONFLICT DO UPDATE of something else",
        NONE,
        "INSERT INTO {t} (id, ssn) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.ssn",
        "INSERT INTO {t} (id, ssn) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.name",
    ),
    *cases(
        "constant expressions",
        ALL,
        "INSERT INTO {t} (id, ssn) VALUES (20, 'a' || 'b'), (21, upper('abc')), (22, 5::text) RETURNING ssn",
        "INSERT INTO {t} (id, ssn) VALUES (20, substr('abcdef', 2, 3)), (21, lower('ABC')) RETURNING ssn",
        "INSERT INTO {t} (id, pin) VALUES (20, 2 + 3 * 4), (21, -(5)), (22, '7'::int + 1) RETURNING pin",
        ("INSERT INTO {t} (id, ssn) VALUES (20, upper(?1::text)) RETURNING ssn", "abc"),
        ("INSERT INTO {t} (id, pin) VALUES (20, ?1::int + 1) RETURNING pin", 41),
        ("INSERT INTO {t} (id, ssn) VALUES (20, COALESCE(?1::text, 'none')) RETURNING ssn", None),
    ),
    *cases(
        "other expressions",
        NONE,
        "INSERT INTO {t} (id, ssn) VALUES (20, md5(random()::text || 'x'))",
        "INSERT INTO {t} (id, ssn) VALUES (20, 'a' || now())",
        "INSERT INTO {t} (id, ssn) VALUES (20, (SELECT note FROM visits LIMIT 1))",
        "INSERT INTO {t} (id, ssn) VALUES (20, current_user)",
    ),
]

UPDATES: Final = [
    *cases(
        "UPDATE SET",
        ALL,
        ("UPDATE {t} SET ssn = ?1 WHERE id = ?2", "new", 1),
        ("UPDATE {t} SET ssn = ?1, pin = ?2, born = ?3, alias = ?4 WHERE id < 3", "a", 1, BORN, "b"),
        "UPDATE {t} SET ssn = 'x', level = DEFAULT, pin = NULL RETURNING *",
        ("UPDATE {t} SET (ssn, name) = (?1, ?2) WHERE id = 1 RETURNING ssn, name", "a", "b"),
        "UPDATE {t} SET (ssn, name) = ROW('a', 'b') WHERE id = 1 RETURNING ssn, name",
        "UPDATE {t} SET (ssn, name) = (SELECT 'a', 'b') WHERE id = 1 RETURNING ssn, name",
        "UPDATE {t} p SET ssn = v.s FROM (VALUES (1, 'a'), (2, 'b')) v(i, s) WHERE v.i = p.id RETURNING p.ssn",
        "UPDATE {t} p SET ssn = o.ssn FROM {o} o WHERE o.person = p.id RETURNING p.id, p.ssn, o.ssn",
        "UPDATE {t} SET ssn = ssn WHERE id = 1 RETURNING ssn",
        ("UPDATE {t} SET name = ?1 WHERE id = 1 RETURNING ssn", "plain only"),
        "UPDATE {t} SET n = n + 1 WHERE ssn IS NULL RETURNING id, n",
    ),
    *cases(
        "UPDATE SET CASE, COALESCE",
        ALL,
        ("UPDATE {t} SET ssn = COALESCE(?1, ssn) WHERE id < 3 RETURNING ssn", None),
        ("UPDATE {t} SET ssn = COALESCE(?1, ssn) WHERE id < 3 RETURNING ssn", "given"),
        "UPDATE {t} SET ssn = CASE id WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE ssn END RETURNING id, ssn",
        ("UPDATE {t} SET ssn = CASE WHEN n > ?1 THEN ?2 ELSE ssn END RETURNING id, ssn", 2, "big"),
    ),
    *cases(
        "UPDATE by equality",
        COMPARABLE,
        ("UPDATE {t} SET ssn = ?1 WHERE ssn = ?2 RETURNING id", "new", "123-45-6789"),
        ("UPDATE {t} SET ssn = ?1 WHERE ssn = ?1 RETURNING id", "123-45-6789"),
        "UPDATE {t} SET n = 0 WHERE ssn IN ('987-65-4321', '') RETURNING id",
        "UPDATE {t} p SET n = 0 FROM {o} o WHERE o.ssn = p.ssn RETURNING p.id",
    ),
    *cases(
        "UPDATE of something else",
        NONE,
        "UPDATE {t} SET ssn = upper(ssn)",
        "UPDATE {t} SET ssn = ssn || 'x'",
        "UPDATE {t} SET ssn = name",
        "UPDATE {t} SET name = ssn",
        "UPDATE {t} SET ssn = alias",
        "UPDATE {t} SET name = COALESCE(ssn, 'x')",
        "UPDATE {t} SET ssn = v.note FROM visits v WHERE v.id = {t}.id",
        "UPDATE visits SET note = p.ssn FROM {t} p WHERE p.id = visits.id",
    ),
    *cases("UPDATE of an integer", NONE, "UPDATE {t} SET pin = pin + 1", named="public.{t}.pin"),
    *cases(
        "DELETE, TRUNCATE",
        ALL,
        ("DELETE FROM {t} WHERE id = ?1 RETURNING *", 1),
        "DELETE FROM {t} USING visits v WHERE v.person = {t}.id RETURNING {t}.id, ssn",
        "DELETE FROM {t} WHERE ssn IS NULL",
        "DELETE FROM {o}",
        "TRUNCATE {t}",
    ),
    *cases(
        "DELETE by equality",
        COMPARABLE,
        ("DELETE FROM {t} WHERE ssn = ?1 RETURNING id, ssn", "123-45-6789"),
        "DELETE FROM {t} WHERE pin = 70002 AND born = '1986-07-09'",
        ("DELETE FROM {o} USING {t} p WHERE p.ssn = {o}.ssn AND p.alias = ?1", "amber-fox"),
    ),
]

READS: Final = [
    *cases(
        "SELECT",
        ALL,
        "SELECT * FROM {t} ORDER BY id",
        "SELECT ssn FROM {t}",
        "SELECT p.* FROM {t} p ORDER BY p.id",
        "SELECT {t}.ssn, public.{t}.pin FROM public.{t}",
        'SELECT "ssn" AS "Number", id FROM "{t}" ORDER BY id',
        "SELECT (p).ssn, (p).name FROM {t} p",
        "TABLE {t}",
        "SELECT s.x, s.y FROM {t} s(i, x, y)",
        ("SELECT ssn, born FROM {t} WHERE id = ?1", 1),
        ("SELECT ?1::text, ssn FROM {t} WHERE id = ?2", "tag", 2),
        "SELECT ssn FROM {t} ORDER BY id DESC LIMIT 2 OFFSET 1",
        "SELECT ssn FROM {t} WHERE id = 1 FOR UPDATE",
        "SELECT ctid, xmin::text <> '' AS x, ssn FROM {t} WHERE id = 1",
        "SELECT ssn, ssn, id FROM {t} WHERE id = 999",
        "SELECT id FROM {t} WHERE name = 'first'",
    ),
    *cases(
        "subquery, CTE, set operation, window",
        ALL,
        "SELECT q.a FROM (SELECT ssn AS a FROM {t}) q",
        "SELECT a, b FROM (SELECT ssn, pin FROM {t}) q(a, b)",
        "WITH c AS (SELECT * FROM {t}) SELECT ssn, c.name FROM c",
        "WITH c(a) AS MATERIALIZED (SELECT ssn FROM {t}) SELECT * FROM c",
        "WITH RECURSIVE r(i, s) AS (SELECT id, ssn FROM {t} WHERE id = 1 UNION ALL"
        " SELECT p.id, p.ssn FROM {t} p JOIN r ON p.id = r.i + 1) SELECT i, s FROM r ORDER BY i",
        "SELECT (SELECT ssn FROM {t} q WHERE q.id = p.id) FROM {t} p",
        "SELECT o.id, l.ssn FROM {o} o, LATERAL (SELECT ssn FROM {t} p WHERE p.id = o.person) l",
        "SELECT ssn FROM {t} UNION ALL SELECT ssn FROM {o}",
        "SELECT ssn FROM {t} UNION ALL VALUES ('constant'), (NULL)",
        "SELECT id, lag(ssn) OVER (ORDER BY id), first_value(pin) OVER (ORDER BY id) FROM {t} ORDER BY id",
        "SELECT id, lead(ssn, 1, 'none') OVER (ORDER BY id) FROM {t} ORDER BY id",
        "SELECT id FROM {t} WHERE EXISTS (SELECT ssn FROM {o} o WHERE o.person = {t}.id)",
        "SELECT id FROM {t} WHERE id IN (SELECT person FROM {o}) ORDER BY id",
    ),
    *cases(
        "JOIN on plain columns",
        ALL,
        "SELECT p.ssn, o.ssn, v.note FROM {t} p JOIN {o} o ON o.person = p.id LEFT JOIN visits v ON v.id = p.id",
        "SELECT p.ssn, o.note FROM {t} p LEFT JOIN {o} o ON o.person = p.id ORDER BY p.id",
        "SELECT o.ssn, p.id FROM {o} o RIGHT JOIN {t} p ON o.person = p.id ORDER BY p.id",
        "SELECT a.ssn, b.ssn FROM {t} a CROSS JOIN {o} b",
        "SELECT p.ssn, o.note FROM {t} p JOIN {o} o USING (id)",
    ),
    *cases(
        "COALESCE, CASE",
        ALL,
        "SELECT COALESCE(ssn, 'none') FROM {t} ORDER BY id",
        ("SELECT COALESCE(ssn, ?1) FROM {t} ORDER BY id", "given"),
        "SELECT CASE WHEN id < 3 THEN ssn ELSE 'hidden' END FROM {t} ORDER BY id",
        "SELECT CASE WHEN id < 3 THEN ssn END AS s, CASE id WHEN 1 THEN pin ELSE 0 END FROM {t} ORDER BY id",
        "SELECT COALESCE(o.ssn, p.ssn) FROM {t} p LEFT JOIN {o} o ON o.person = p.id ORDER BY p.id",
    ),
    *cases(
        "count, IS NULL",
        ALL,
        "SELECT count(ssn), count(*), count(pin) FROM {t}",
        "SELECT id FROM {t} WHERE ssn IS NULL",
        "SELECT id, ssn IS NOT NULL, born IS NULL FROM {t} ORDER BY id",
        "SELECT n, count(ssn) FILTER (WHERE ssn IS NOT NULL) FROM {t} GROUP BY n ORDER BY n",
    ),
]

COMPARISONS: Final = [
    *cases(
        "equality",
        COMPARABLE,
        ("SELECT id, ssn FROM {t} WHERE ssn = ?1 ORDER BY id", "123-45-6789"),
        ("SELECT id FROM {t} WHERE ?1 = ssn ORDER BY id", "123-45-6789"),
        "SELECT id FROM {t} WHERE ssn = '123-45-6789' ORDER BY id",
        "SELECT id FROM {t} WHERE ssn = '' ORDER BY id",
        ("SELECT id FROM {t} WHERE ssn = ?1", "nobody"),
        ("SELECT id FROM {t} WHERE ssn = ?1", None),
        ("SELECT id FROM {t} WHERE ssn <> ?1 ORDER BY id", "123-45-6789"),
        ("SELECT id FROM {t} WHERE ssn != ?1 ORDER BY id", "123-45-6789"),
        ("SELECT id FROM {t} WHERE NOT (ssn = ?1) ORDER BY id", "123-45-6789"),
        ("SELECT id FROM {t} WHERE ssn = ?1::text AND born = ?2", "123-45-6789", BORN),
        ("SELECT id FROM {t} WHERE ssn = CAST(?1 AS varchar)", "987-65-4321"),
        ("SELECT id FROM {t} WHERE ssn = ?1 OR id = ?2 ORDER BY id", "987-65-4321", 4),
        ("SELECT id FROM {t} WHERE ?1::text IS NULL OR ssn = ?1 ORDER BY id", "987-65-4321"),
        ("SELECT id FROM {t} WHERE ?1::text IS NULL OR ssn = ?1 ORDER BY id", None),
        ("SELECT id FROM {t} WHERE ssn IS DISTINCT FROM ?1 ORDER BY id", "123-45-6789"),
        "SELECT id FROM {t} WHERE ssn IS NOT DISTINCT FROM NULL ORDER BY id",
        ("SELECT id FROM {t} WHERE (ssn, id) = (?1, ?2)", "123-45-6789", 3),
        "SELECT ssn = '123-45-6789' AS same, id FROM {t} ORDER BY id",
        ("SELECT id FROM {t} WHERE pin = ?1 ORDER BY id", 70001),
        "SELECT id FROM {t} WHERE pin = 70001::bigint OR pin = -2147483647 ORDER BY id",
        "SELECT id FROM {t} WHERE pin = 99999999999",
        "SELECT id FROM {t} WHERE born = '1957-12-10' OR born = date '0044-03-15' ORDER BY id",
        ("SELECT id FROM {t} WHERE alias = ?1 ORDER BY id", "amber-fox"),
        ("SELECT id FROM {t} WHERE alias = ?1", "longer than the twenty letters of the column"),
        "SELECT id FROM {t} WHERE ssn = 'ünïcödé 日本'",
        ("SELECT id FROM {t} WHERE ssn = upper(?1::text) OR ssn = '123-' || '45-6789' ORDER BY id", "x"),
    ),
    *cases(
        "IN, ANY, ALL",
        COMPARABLE,
        ("SELECT id FROM {t} WHERE ssn IN (?1, ?2) ORDER BY id", "123-45-6789", ""),
        "SELECT id FROM {t} WHERE ssn NOT IN ('123-45-6789', '') ORDER BY id",
        ("SELECT id FROM {t} WHERE ssn = ANY(?1) ORDER BY id", ["123-45-6789", "987-65-4321"]),
        ("SELECT id FROM {t} WHERE ssn = ANY(?1::text[]) ORDER BY id", ["", None, 'x,"y"{}']),
        ("SELECT id FROM {t} WHERE ssn = ANY(?1::text[]) ORDER BY id", []),
        ("SELECT id FROM {t} WHERE ssn <> ALL(?1::text[]) ORDER BY id", ["123-45-6789", ""]),
        ("SELECT id FROM {t} WHERE pin = ANY(?1::int[]) ORDER BY id", [70001, 0, None]),
        ("SELECT id FROM {t} WHERE born = ANY(?1::date[]) ORDER BY id", [BORN]),
        "SELECT id FROM {t} WHERE ssn = ANY(ARRAY['123-45-6789', 'x']) ORDER BY id",
        "SELECT id FROM {t} WHERE ssn = ANY('{123-45-6789,\"\"}') ORDER BY id",
        "SELECT id FROM {t} WHERE ssn IN (SELECT ssn FROM {o}) ORDER BY id",
        "SELECT id FROM {t} WHERE ssn NOT IN (SELECT ssn FROM {o} WHERE ssn IS NOT NULL) ORDER BY id",
        "SELECT id FROM {t} WHERE ssn = ANY (SELECT o.ssn FROM {o} o) ORDER BY id",
        "SELECT id FROM {t} p WHERE EXISTS (SELECT 1 FROM {o} o WHERE o.ssn = p.ssn) ORDER BY id",
        "SELECT id FROM {t} WHERE ssn = (SELECT ssn FROM {o} WHERE id = 1) ORDER BY id",
        "SELECT id FROM {t} WHERE ssn IN (VALUES ('123-45-6789'), ('x')) ORDER BY id",
    ),
    *cases(
        "JOIN on sealed columns",
        COMPARABLE,
        "SELECT p.id, o.note FROM {t} p JOIN {o} o ON p.ssn = o.ssn ORDER BY p.id",
        "SELECT p.id, o.note FROM {t} p LEFT JOIN {o} o ON o.ssn = p.ssn ORDER BY p.id",
        "SELECT a.id, b.id FROM {t} a JOIN {t} b ON a.ssn = b.ssn AND a.id < b.id",
        ("SELECT p.ssn, o.ssn FROM {t} p, {o} o WHERE p.ssn = o.ssn AND p.ssn = ?1", "123-45-6789"),
    ),
    *cases(
        "GROUP BY, PARTITION BY, count(DISTINCT)",
        COMPARABLE,
        "SELECT count(*) FROM {t} GROUP BY ssn HAVING count(*) > 1",
        "SELECT max(n) FROM {t} GROUP BY ssn, pin",
        "SELECT count(DISTINCT ssn) FROM {t}",
        "SELECT ssn, count(*) FROM {t} GROUP BY ssn",
        "SELECT ssn, pin, max(n) FROM {t} GROUP BY ssn, pin",
        "SELECT ssn AS s, count(*) FROM {t} GROUP BY s",
        "SELECT ssn, count(*) FROM {t} GROUP BY 1",
        "SELECT count(*), ssn AS s, pin FROM {t} GROUP BY s, 3",
        "SELECT id, count(*) OVER (PARTITION BY ssn) FROM {t} ORDER BY id",
        "SELECT id, CASE ssn WHEN '123-45-6789' THEN 1 WHEN '' THEN 2 ELSE 3 END FROM {t} ORDER BY id",
    ),
]

_ORDERED: Final = (
    "SELECT ssn FROM {t} ORDER BY ssn",
    "SELECT ssn AS a FROM {t} ORDER BY a",
    "SELECT id, ssn FROM {t} ORDER BY 2",
    "SELECT id, rank() OVER (ORDER BY ssn) FROM {t}",
    "SELECT id FROM {t} WHERE ssn < 'x'",
    ("SELECT id FROM {t} WHERE ssn >= ?1", "1"),
    "SELECT id FROM {t} WHERE ssn BETWEEN 'a' AND 'b'",
    "SELECT min(ssn) FROM {t}",
    "SELECT max(ssn) FROM {t}",
    "SELECT GREATEST(ssn, 'x') FROM {t}",
    ("SELECT id FROM {t} WHERE ssn LIKE ?1", "123%"),
    "SELECT id FROM {t} WHERE ssn ILIKE '123%'",
    "SELECT id FROM {t} WHERE ssn ~ '^1'",
    "SELECT id FROM {t} WHERE ssn SIMILAR TO '1%'",
    "SELECT DISTINCT ON (ssn) id FROM {t}",
    "SELECT count(*) FROM {t} GROUP BY GROUPING SETS ((ssn), ())",
    "SELECT count(*) FROM {t} GROUP BY ROLLUP (ssn)",
)
_FUNCTIONS: Final = (
    "SELECT upper(ssn) FROM {t}",
    "SELECT length(ssn) FROM {t}",
    "SELECT substring(ssn from 1 for 3) FROM {t}",
    "SELECT ssn || 'x' FROM {t}",
    "SELECT md5(ssn) FROM {t}",
    "SELECT ssn::int FROM {t}",
    "SELECT ssn::bytea FROM {t}",
    "SELECT string_agg(ssn, ',') FROM {t}",
    "SELECT ROW(ssn, 1) FROM {t}",
    "SELECT p FROM {t} p",
    "SELECT id FROM {t} WHERE upper(ssn) = 'X'",
    "SELECT id FROM {t} WHERE length(ssn) = 3",
    "SELECT id FROM {t} WHERE ssn = name",
    "SELECT id FROM {t} WHERE ssn = alias",
)
REFUSED: Final = [
    *cases("order and patterns", NONE, *_ORDERED),
    *cases("functions", NONE, *_FUNCTIONS),
    *cases(
        "arithmetic",
        NONE,
        "SELECT pin + 1 FROM {t}",
        "SELECT sum(pin) FROM {t}",
        "SELECT avg(pin) FROM {t}",
        "SELECT pin::text FROM {t}",
        "SELECT - pin FROM {t}",
        named="public.{t}.pin",
    ),
    *cases(
        "dates",
        NONE,
        "SELECT extract(year from born) FROM {t}",
        "SELECT to_char(born, 'YYYY') FROM {t}",
        "SELECT age(born) FROM {t}",
        "SELECT born + 1 FROM {t}",
        "SELECT id FROM {t} WHERE born > '2000-01-01'",
        named="public.{t}.born",
    ),
]
LATER: Final = [
    *cases(
        "refused by name",
        NONE,
        "DO $$ BEGIN DELETE FROM {t}; END $$",
        named="{t}",
    ),
    *cases(
        "relations made of it",
        NONE,
        "CREATE TABLE copied AS SELECT ssn FROM {t}",
        "SELECT ssn INTO copied FROM {t}",
        "CREATE MATERIALIZED VIEW copied AS SELECT ssn FROM {t}",
        "CREATE VIEW shown AS SELECT ssn FROM {t}",
        "CREATE TABLE copied (LIKE {t})",
        "CREATE TABLE copied () INHERITS ({t})",
        "ALTER TABLE {t} RENAME TO renamed",
        "ALTER TABLE {t} SET SCHEMA pg_catalog",
        "CREATE TRIGGER tr BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE RULE r AS ON INSERT TO {t} DO NOTHING",
        sqlstate="PS006",
        named="{t}",
    ),
    *cases(
        "DDL over a sealed column",
        NONE,
        "ALTER TABLE {t} ALTER COLUMN ssn TYPE int USING 1",
        "ALTER TABLE {t} ALTER COLUMN ssn SET DEFAULT 'x'",
        "ALTER TABLE {t} ADD CONSTRAINT c CHECK (ssn <> '')",
        "ALTER TABLE {t} ADD UNIQUE (ssn)",
        "ALTER TABLE {t} ADD CONSTRAINT f FOREIGN KEY (ssn) REFERENCES {o} (note)",
        "CREATE INDEX ON {t} (ssn)",
        "CREATE UNIQUE INDEX ON {t} (ssn)",
        "CREATE INDEX ON {t} (ssn text_pattern_ops)",
        "CREATE INDEX ON {t} (id) WHERE ssn IS NOT NULL",
        "CREATE INDEX ON {t} (upper(ssn))",
        "ALTER TABLE {t} ADD EXCLUDE USING btree (ssn WITH =)",
        sqlstate="PS006",
    ),
    *cases(
        "renaming a sealed column",
        NONE,
        "ALTER TABLE {t} RENAME COLUMN ssn TO number",
        sqlstate="PS006",
        named='"ssn" of the protected relation "{t}"',
    ),
]

WORKING: Final[Sequence[Case]] = (*INSERTS, *UPDATES, *READS, *COMPARISONS)
CASES: Final[Sequence[Case]] = (
    *WORKING,
    *sql_matrix_reads.CASES,
    *sql_matrix_writes.CASES,
    *sql_matrix_cursors.CASES,
    *sql_matrix_relations.CASES,
    *sql_matrix_nested.CASES,
    *REFUSED,
    *LATER,
)


def render() -> str:
    """The matrix as a table: a form a row, a mode a column."""
    lines = ["| form | det | eq | rnd |", "|---|---|---|---|"]
    for form in dict.fromkeys(case.form for case in CASES):
        of_form = [case for case in CASES if case.form == form]
        verdicts = [_verdict(of_form, mode) for mode in (DET, EQ, RND)]
        lines.append(f"| {form} | {' | '.join(verdicts)} |")
    return "\n".join(lines) + "\n"


def _verdict(found: Sequence[Case], mode: str) -> str:
    codes = {"works" if mode in case.works else f"refused ({case.sqlstate})" for case in found}
    return ", ".join(sorted(codes))
