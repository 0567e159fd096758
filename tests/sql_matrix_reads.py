"""Cases of the matrix of SQL: set operations, grouping, joins and comparisons.

One reason to change: such a form is promised, or no longer refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.sql_cases import ALL, COMPARABLE, NONE, Case, cases
from tests.sql_world import DET

_DET: Final = frozenset({DET})

DUPLICATES: Final = [
    *cases(
        "DISTINCT",
        COMPARABLE,
        "SELECT DISTINCT ssn FROM {t}",
        "SELECT DISTINCT ssn, born FROM {t}",
        "SELECT DISTINCT p.ssn AS s, level, name FROM {t} p",
        "SELECT DISTINCT ssn, n % 2 AS half, n FROM {t} ORDER BY half, 3 DESC",
        "SELECT DISTINCT n, ssn FROM {t} ORDER BY n DESC LIMIT 2",
        "SELECT DISTINCT n + 1, ssn FROM {t} ORDER BY n + 1 OFFSET 1",
        "SELECT DISTINCT /* all */ (ssn), 'x' FROM {t}",
        "SELECT DISTINCT (p).ssn FROM {t} p",
        "SELECT DISTINCT q.* FROM (SELECT ssn, pin FROM {t}) q",
        "SELECT DISTINCT o.ssn, p.name FROM {t} p LEFT JOIN {o} o ON o.person = p.id",
        "SELECT DISTINCT ssn, count(*) FROM {t} GROUP BY ssn",
        "SELECT sum(c) FROM (SELECT DISTINCT ssn, count(*) OVER (PARTITION BY pin) AS c FROM {t}) q",
        "SELECT DISTINCT c FROM (SELECT COALESCE(ssn, 'none') AS c FROM {t}) q",
        "SELECT DISTINCT CASE WHEN ssn = '' THEN 1 ELSE 2 END FROM {t}",
        "SELECT DISTINCT ssn IS NULL, alias FROM {t}",
        "SELECT count(*) FROM (SELECT DISTINCT ssn, pin FROM {t}) q",
        "SELECT id FROM {t} WHERE ssn IN (SELECT DISTINCT ssn FROM {o}) ORDER BY id",
        "WITH c AS (SELECT DISTINCT ssn FROM {t}) SELECT c.ssn, o.id FROM c JOIN {o} o ON o.ssn = c.ssn",
        ("SELECT DISTINCT ssn FROM {t} WHERE ssn <> ?1", "123-45-6789"),
        "SELECT count(DISTINCT ssn), count(DISTINCT pin), count(DISTINCT n) FROM {t}",
        "SELECT n % 2, count(DISTINCT ssn) FILTER (WHERE ssn <> '') FROM {t} GROUP BY 1",
    ),
    *cases(
        "DISTINCT with a unique key of the row",
        ALL,
        "SELECT DISTINCT id, ssn, pin FROM {t} ORDER BY id",
        "SELECT DISTINCT * FROM {t}",
        "SELECT DISTINCT ON (n) n, ssn FROM {t} ORDER BY n",
        "SELECT DISTINCT n FROM {t}",
    ),
    *cases(
        "DISTINCT ON a sealed column, DISTINCT with ORDER BY of it",
        NONE,
        "SELECT DISTINCT ON (ssn) id FROM {t}",
        "SELECT DISTINCT ON (2) id, ssn FROM {t}",
        "SELECT DISTINCT ssn FROM {t} ORDER BY ssn",
        "SELECT DISTINCT ssn, id FROM {t} ORDER BY 1",
        "SELECT count(DISTINCT (ssn, pin)) FROM {t}",
    ),
    *cases(
        "DISTINCT of an expression",
        _DET,
        "SELECT DISTINCT COALESCE(ssn, 'none') FROM {t}",
        "SELECT DISTINCT CASE WHEN n < 3 THEN ssn END FROM {t}",
    ),
    *cases(
        "UNION",
        COMPARABLE,
        "SELECT ssn FROM {t} UNION SELECT ssn FROM {o}",
        "SELECT ssn, id FROM {t} UNION SELECT ssn, person + 6 FROM {o} ORDER BY id, 2 LIMIT 20",
        "SELECT ssn AS a FROM {t} UNION DISTINCT SELECT ssn FROM {o}",
        "SELECT ssn FROM {t} UNION SELECT ssn FROM {o} UNION SELECT 'x'",
        "SELECT ssn FROM {t} UNION SELECT ssn FROM {o} UNION ALL SELECT ssn FROM {o}",
        "SELECT ssn FROM {t} UNION ALL SELECT ssn FROM {o} UNION SELECT NULL",
        "(SELECT ssn FROM {t} WHERE n < 3 LIMIT 9) UNION (SELECT ssn FROM {o})",
        "SELECT 'x', ssn FROM {t} UNION (SELECT 'y', ssn FROM {o} UNION SELECT 'x', ssn FROM {t})",
        "VALUES ('x'), ('123-45-6789') UNION SELECT ssn FROM {t}",
        "TABLE {o} UNION TABLE {o}",
        "SELECT q.s FROM (SELECT ssn FROM {t} UNION SELECT ssn FROM {o}) q(s)",
        "SELECT count(*) FROM (SELECT ssn FROM {t} UNION SELECT ssn FROM {o}) q",
        "WITH c AS (SELECT ssn, 1 AS one FROM {t} UNION SELECT ssn, 2 FROM {o}) SELECT ssn, one FROM c",
        "WITH c AS (SELECT 1) SELECT ssn FROM {t} UNION SELECT ssn FROM {o}",
        "SELECT id FROM {t} WHERE ssn IN (SELECT ssn FROM {o} UNION SELECT 'x') ORDER BY id",
        "SELECT EXISTS (SELECT ssn FROM {o} WHERE ssn IS NULL"
        " UNION SELECT ssn FROM {t} WHERE ssn IS NULL OFFSET 1)",
        ("SELECT ssn FROM {t} WHERE id = ?1 UNION SELECT ?2::text", 1, "123-45-6789"),
        "SELECT CASE WHEN n = 1 THEN ssn END FROM {t} UNION SELECT ssn FROM {o}",
        "SELECT p.ssn, p.born FROM {t} p JOIN {o} o ON o.ssn = p.ssn UNION SELECT ssn, born FROM {t} WHERE n = 4",
        "INSERT INTO {o} (ssn, id) SELECT s, 40 FROM"
        " (SELECT ssn FROM {t} WHERE id = 1 UNION SELECT ssn FROM {t} WHERE id = 3) q(s) RETURNING ssn",
    ),
    *cases("UNION of plain columns", ALL, "SELECT id FROM {t} UNION SELECT id FROM {o} ORDER BY id"),
    *cases(
        "UNION in WITH RECURSIVE, INTERSECT, EXCEPT",
        _DET,
        "SELECT ssn FROM {t} INTERSECT SELECT ssn FROM {o}",
        "SELECT ssn FROM {t} EXCEPT SELECT ssn FROM {o}",
        "SELECT ssn FROM {t} EXCEPT ALL SELECT ssn FROM {o}",
        "SELECT ssn, born FROM {t} INTERSECT ALL SELECT ssn, born FROM {t}",
        "WITH RECURSIVE r(i, s) AS (SELECT id, ssn FROM {t} WHERE id = 1 UNION"
        " SELECT p.id, p.ssn FROM {t} p JOIN r ON p.id = r.i + 1) SELECT i, s FROM r ORDER BY i",
    ),
]

GROUPS: Final = [
    *cases(
        "expressions beside GROUP BY of a sealed column",
        COMPARABLE,
        "SELECT max(n), ssn FROM {t} GROUP BY ssn HAVING ssn IS NOT NULL",
        "SELECT max(n), ssn FROM {t} GROUP BY ssn HAVING ssn = '123-45-6789'",
        "SELECT COALESCE(ssn, 'x') AS c, count(*) FROM {t} GROUP BY ssn",
        "SELECT CASE WHEN ssn = '' THEN 'none' ELSE ssn END, count(*) FROM {t} GROUP BY ssn",
        "SELECT NULLIF(ssn, ''), count(*) FROM {t} GROUP BY ssn",
        "SELECT ssn = '' AS e, ssn IS NULL, count(*) FROM {t} GROUP BY ssn",
        "SELECT ssn = '' AS e, count(*) FROM {t} GROUP BY e",
        "SELECT ssn, (SELECT count(*) FROM {o} o WHERE o.ssn = p.ssn) FROM {t} p GROUP BY ssn",
        "SELECT (SELECT COALESCE(p.ssn, 'x')), count(*) FROM {t} p GROUP BY p.ssn",
        "SELECT ssn, lag(ssn) OVER (ORDER BY min(id)) FROM {t} GROUP BY ssn ORDER BY min(id)",
        "SELECT ssn, count(*) FROM {t} GROUP BY ssn ORDER BY ssn IS NULL, min(id)",
        "SELECT ssn, sum(CASE WHEN ssn = '' THEN 1 ELSE 0 END) FROM {t} GROUP BY ssn",
        "SELECT p.ssn, count(o.id) FROM {t} p LEFT JOIN {o} o ON o.ssn = p.ssn GROUP BY p.ssn",
        "SELECT count(*) FROM {t} GROUP BY COALESCE(ssn, 'x')",
        "SELECT id, count(*) OVER w FROM {t} WINDOW w AS (PARTITION BY ssn ORDER BY id) ORDER BY id",
        "SELECT id, row_number() OVER (PARTITION BY ssn, pin ORDER BY id) FROM {t} ORDER BY id",
    ),
    *cases(
        "GROUP BY of an expression that is shown, GROUPING SETS",
        NONE,
        "SELECT COALESCE(ssn, 'x'), count(*) FROM {t} GROUP BY COALESCE(ssn, 'x')",
        "SELECT count(*) FROM {t} GROUP BY GROUPING SETS ((ssn), ())",
        "SELECT ssn, count(*) FROM {t} GROUP BY CUBE (ssn, n)",
        "SELECT upper(ssn) FROM {t} GROUP BY ssn",
    ),
    *cases(
        "GROUP BY of a unique key of the row, ROLLUP of plain columns",
        ALL,
        "SELECT id, ssn FROM {t} GROUP BY id ORDER BY id",
        "SELECT id, ssn, alias FROM {t} GROUP BY id, ssn, alias ORDER BY id",
        "SELECT n, count(ssn) FROM {t} GROUP BY ROLLUP (n)",
        "SELECT id, nth_value(ssn, 2) OVER w, last_value(pin) OVER w FROM {t}"
        " WINDOW w AS (ORDER BY id) ORDER BY id",
    ),
]

JOINS: Final = [
    *cases(
        "JOIN USING, NATURAL over a sealed column",
        _DET,
        "SELECT p.id, o.id FROM {t} p JOIN {o} o USING (ssn) ORDER BY p.id",
        "SELECT * FROM {t} p JOIN {o} o USING (ssn)",
        "SELECT ssn, p.id, p.ssn, o.ssn FROM {t} p LEFT JOIN {o} o USING (ssn) ORDER BY p.id",
        "SELECT ssn, o.id FROM {t} p RIGHT JOIN {o} o USING (ssn) ORDER BY o.id",
        "SELECT ssn FROM {t} p FULL JOIN {o} o USING (ssn)",
        "SELECT u.ssn FROM {t} p JOIN {o} o USING (ssn) AS u",
        "SELECT * FROM (SELECT ssn, alias FROM {t}) p NATURAL JOIN (SELECT ssn, note FROM {o}) o",
        "SELECT ssn FROM {t} NATURAL JOIN {o} WHERE ssn = '123-45-6789'",
        "SELECT count(*) FROM {t} JOIN {o} USING (ssn) GROUP BY ssn",
        "SELECT ssn FROM {t} p JOIN (VALUES ('123-45-6789'), ('x')) v(ssn) USING (ssn)",
    ),
    *cases(
        "JOIN ON, LATERAL and subqueries over sealed columns",
        COMPARABLE,
        "SELECT a.id, b.id FROM {t} a FULL JOIN {o} b ON a.ssn = b.ssn ORDER BY a.id, b.id",
        "SELECT o.id, l.ssn FROM {o} o LEFT JOIN LATERAL"
        " (SELECT p.ssn FROM {t} p WHERE p.ssn = o.ssn LIMIT 1) l ON true ORDER BY o.id",
        "SELECT id FROM {t} WHERE NOT EXISTS (SELECT 1 FROM {o} WHERE {o}.ssn = {t}.ssn) ORDER BY id",
        "SELECT id FROM {t} WHERE (ssn, id) IN (SELECT ssn, person FROM {o}) ORDER BY id",
        "SELECT id FROM {t} WHERE (id, ssn) IN ((1, '123-45-6789'), (2, 'x')) ORDER BY id",
        ("SELECT id FROM {t} WHERE (id, ssn) = (SELECT person, ssn FROM {o} WHERE id = ?1)", 1),
        ("SELECT id FROM {t} WHERE ROW(id, ssn) IS DISTINCT FROM ROW(1, ?1) ORDER BY id", "123-45-6789"),
        "WITH RECURSIVE r(i, s) AS (SELECT id, ssn FROM {t} WHERE id = 1 UNION ALL SELECT p.id, r.s"
        " FROM {t} p JOIN r ON p.id = r.i + 1 AND p.ssn <> r.s) SELECT i, s FROM r ORDER BY i",
        ("SELECT p.id FROM {t} p JOIN unnest(?1::text[]) u(s) ON u.s = p.ssn ORDER BY p.id", ["123-45-6789"]),
        ("SELECT id FROM {t} WHERE ssn IN (SELECT unnest(?1::text[])) ORDER BY id", ["123-45-6789"]),
    ),
]

NULLIFS: Final = [
    *cases(
        "NULLIF",
        COMPARABLE,
        "SELECT NULLIF(ssn, '') FROM {t} ORDER BY id",
        ("SELECT NULLIF(p.ssn, ?1) AS a, id FROM {t} p ORDER BY id", "123-45-6789"),
        "SELECT COALESCE(NULLIF(ssn, ''), 'none') FROM {t} ORDER BY id",
        "SELECT NULLIF(a.ssn, b.ssn) FROM {t} a JOIN {o} b ON b.person = a.id ORDER BY a.id",
        "SELECT id FROM {t} WHERE NULLIF(ssn, '') = '123-45-6789' ORDER BY id",
        "SELECT id FROM {t} WHERE NULLIF(ssn, '') IS NULL ORDER BY id",
        "SELECT count(NULLIF(ssn, '')), count(DISTINCT NULLIF(ssn, '')) FROM {t}",
        "SELECT NULLIF(pin, 0), NULLIF(born, '1957-12-10') FROM {t} ORDER BY id",
        "SELECT NULLIF(alias, 'amber-fox') FROM {t} ORDER BY id",
        "SELECT q.nullif FROM (SELECT NULLIF((ssn), (SELECT ssn FROM {o} WHERE id = 1)) FROM {t}) q",
        "SELECT CASE WHEN n > 3 THEN 'big' ELSE NULLIF(ssn, '') END FROM {t} ORDER BY id",
        "UPDATE {t} SET ssn = NULLIF(ssn, '123-45-6789') RETURNING id, ssn",
    ),
    *cases("NULLIF of a constant and a sealed column", _DET, "SELECT NULLIF('x', ssn) FROM {t} ORDER BY id"),
    *cases("NULLIF with a plain column", NONE, "SELECT NULLIF(ssn, name) FROM {t}"),
]

TYPES: Final = [
    *cases(
        "types and lengths of expressions over a column with a length",
        ALL,
        "SELECT COALESCE(alias, 'x'), COALESCE(alias, alias) FROM {t} ORDER BY id",
        "SELECT CASE WHEN id = 1 THEN alias END, CASE WHEN id = 1 THEN alias ELSE alias END FROM {t} ORDER BY id",
        "SELECT alias FROM {t} UNION ALL SELECT 'x'",
        "SELECT alias FROM {t} UNION ALL SELECT alias FROM {t}",
        "SELECT lag(alias) OVER (ORDER BY id), alias FROM {t} ORDER BY id",
        "SELECT alias::text, alias::varchar, alias::varchar(20), ssn::varchar FROM {t} ORDER BY id",
        "SELECT (SELECT alias FROM {t} WHERE id = 1)",
        "WITH c AS (SELECT COALESCE(alias, 'x') AS a, alias::text AS b FROM {t}) SELECT a, b FROM c",
    ),
]

CONSTANTS: Final = [
    *cases(
        "signs and COLLATE of constants, constants of subqueries",
        COMPARABLE,
        "SELECT id FROM {t} WHERE pin = +70001 ORDER BY id",
        "SELECT id FROM {t} WHERE pin = -(+2147483647) OR pin = + 70000 + 2 ORDER BY id",
        "SELECT id FROM {t} WHERE ssn = '123-45-6789' COLLATE \"C\" ORDER BY id",
        "SELECT id FROM {t} WHERE ssn = ('123-45-6789' COLLATE pg_catalog.\"default\") ORDER BY id",
        "SELECT id FROM {t} WHERE ssn COLLATE \"C\" = '123-45-6789' ORDER BY id",
        ('SELECT id FROM {t} WHERE ssn = ?1::text COLLATE "C" ORDER BY id', "123-45-6789"),
        ("SELECT p.id FROM {t} p JOIN (VALUES (?1), (?2)) v(s) ON v.s = p.alias ORDER BY p.id", "amber-fox", "x"),
        ("SELECT p.id FROM {t} p JOIN (SELECT ?1 AS s) v ON v.s = p.alias ORDER BY p.id", "amber-fox"),
        ("SELECT p.id FROM {t} p JOIN (VALUES (?1::int), (?2)) v(s) ON v.s = p.pin ORDER BY p.id", 70001, 5),
        ("SELECT id FROM {t} WHERE alias = (SELECT ?1) ORDER BY id", "amber-fox"),
        "SELECT p.id FROM {t} p, (SELECT r.s FROM (SELECT s::text FROM (VALUES ('123-45-6789')) v(s)) r) q"
        " WHERE q.s = p.ssn ORDER BY p.id",
        "SELECT p.id FROM {t} p WHERE p.pin IN"
        " (SELECT i::int FROM (SELECT i FROM (VALUES ('70001'), ('7')) v(i)) q) ORDER BY p.id",
    ),
    *cases("COLLATE of a shown column", ALL, 'SELECT ssn COLLATE "C" AS s FROM {t} ORDER BY id'),
    *cases(
        "other collations, arrays that are not constants, rows in order",
        NONE,
        "SELECT id FROM {t} WHERE ssn = 'x' COLLATE \"my collation\"",
        "SELECT id FROM {t} WHERE ssn = ANY(string_to_array('a,x', ','))",
        "SELECT id FROM {t} WHERE ssn = ANY(ARRAY(SELECT ssn FROM {o}))",
        "SELECT id FROM {t} WHERE (id, ssn) < (3, 'x')",
        "SELECT id FROM {t} WHERE ssn > ANY(ARRAY['a'])",
        "SELECT id FROM {t} WHERE ssn ILIKE 'x'",
        "SELECT mode() WITHIN GROUP (ORDER BY ssn) FROM {t}",
        "SELECT a.id FROM {t} a JOIN {t} b ON a.ssn = b.alias",
    ),
]

ATTACKS: Final = [
    *cases(
        "words of SQL in names, comments and strings beside UNION and DISTINCT",
        COMPARABLE,
        "SELECT DISTINCT p.ssn, o.ssn FROM {t} p, {o} o",
        "SELECT ssn AS union FROM {t} UNION SELECT ssn FROM {o}",
        "SELECT ssn FROM {t} UNION SELECT ssn AS order FROM {o}",
        "SELECT ssn FROM {t} UNION SELECT ssn AS limit FROM {o} LIMIT 100",
        "SELECT ssn FROM {t} UNION SELECT ssn FROM {o} p WHERE note = 'x) union select' -- union\n",
        "SELECT ssn /* union */ FROM {t} -- )\n UNION /* all */ SELECT ssn FROM {o}",
        "SELECT 'union', ssn FROM {t} UNION SELECT $$limit$$, ssn FROM {o}",
        "SELECT NULLIF(ssn, ssn), NULLIF(ssn, NULL) FROM {t} ORDER BY id",
        "SELECT NULLIF(ssn::text, COALESCE('a', 'b')), NULLIF((ssn), ('' ))::text FROM {t} ORDER BY id",
        "SELECT (SELECT ssn), count(*) FROM {t} GROUP BY ssn",
    ),
    *cases(
        "expressions over what UNION, NULLIF and USING show, and plain columns in their way",
        NONE,
        "SELECT upper(u.c) FROM (SELECT ssn AS c FROM {t} UNION SELECT ssn FROM {o}) u",
        "SELECT ssn, name FROM {t} UNION SELECT name, ssn FROM {t}",
        "SELECT ssn FROM {t} UNION SELECT alias FROM {t}",
        "INSERT INTO visits (id, note) SELECT 900, ssn FROM {t} UNION SELECT 901, ssn FROM {o}",
        "INSERT INTO visits (id, note) SELECT DISTINCT 900, ssn FROM {t}",
        "UPDATE {t} SET name = NULLIF(ssn, 'x')",
        "UPDATE {t} SET ssn = NULLIF(name, 'x')",
        "SELECT length(NULLIF(ssn, '')) FROM {t}",
        "SELECT NULLIF(ssn, '') || 'x' FROM {t}",
        "SELECT NULLIF(ssn, '') FROM {t} ORDER BY 1",
        "SELECT ssn || 'x' FROM {t} NATURAL JOIN {o}",
        'SELECT ssn FROM {t} ORDER BY ssn COLLATE "C"',
    ),
]

CASES: Final[Sequence[Case]] = (*DUPLICATES, *GROUPS, *JOINS, *NULLIFS, *TYPES, *CONSTANTS, *ATTACKS)
