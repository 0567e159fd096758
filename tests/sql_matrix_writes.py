"""Cases of the matrix of SQL: values from selects, expressions, conflicts, MERGE.

One reason to change: such a form is promised, or no longer refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.sql_cases import ALL, COMPARABLE, NONE, Case, cases

_SELECTS: Final = [
    *cases(
        "INSERT SELECT without a column that has a rule's default",
        ALL,
        ("INSERT INTO {t} (id, ssn) SELECT 20, ?1::text", "a"),
        "INSERT INTO {t} (id, ssn) SELECT 20, 'a' RETURNING *",
        "INSERT INTO {t} SELECT 20, 'a', 's' ON CONFLICT DO NOTHING",
        "INSERT INTO {t} (id, n, ssn) SELECT i, (i IS DISTINCT FROM 3)::int, s"
        " FROM (VALUES (20, 'a'), (21, 'b')) v(i, s) ORDER BY i",
        "INSERT INTO {t} (id, ssn) (SELECT 20, 'a' UNION ALL (SELECT 21, NULL))",
        "WITH x AS (SELECT 1) INSERT INTO {t} (id, ssn) WITH y AS (SELECT 2) SELECT 20 AS from, 'a' FROM y",
        "INSERT INTO {t} (id, ssn) SELECT id + 100, ssn FROM {o}",
    ),
    *cases(
        "INSERT SELECT DISTINCT of UNION without a column that has a rule's default",
        NONE,
        "INSERT INTO {t} (id, ssn) SELECT 20, 'a' UNION SELECT 21, 'b'",
        named="public.{t}.level",
    ),
    *cases(
        "INSERT SELECT of unnest, as ORMs send it",
        ALL,
        (
            "INSERT INTO {t} (id, ssn, pin) SELECT * FROM UNNEST((?1)::integer[], (?2)::text[], (?3)::integer[])"
            " RETURNING id, level",
            [20, 21],
            ["a", None],
            [1, 2],
        ),
        ("INSERT INTO {o} (id, ssn) SELECT * FROM unnest(?1::int[], ?2::text[])", [20, 21], ["fewer"]),
        ("INSERT INTO {o} (id, ssn) SELECT unnest(?1::int[]), unnest(?2::text[])", [20, 21], ["a", "b"]),
        (
            "WITH c AS (SELECT * FROM unnest(?1::int[], ?2::text[]) u(i, s))"
            " INSERT INTO {o} (id, ssn) SELECT i, s FROM c",
            [20, 21],
            ["a", "b"],
        ),
    ),
    *cases(
        "INSERT SELECT of VALUES with a sentinel",
        ALL,
        (
            "INSERT INTO {t} (id, ssn, pin, level) SELECT p0::int, p1::varchar, p2::integer, p3::varchar FROM"
            " (VALUES (?1::int, ?2::varchar, ?3::integer, ?4::varchar, 0), (?5::int, ?6::varchar, ?7::integer,"
            " ?8::varchar, 1)) AS imp_sen(p0, p1, p2, p3, sen_counter) ORDER BY sen_counter"
            " RETURNING {t}.id, {t}.ssn, {t}.id AS id__1",
            *(20, "a", 5, "l", 21, "b", 6, None),
        ),
    ),
    *cases(
        "INSERT SELECT unless there",
        ALL,
        ("INSERT INTO {o} (id, ssn) SELECT 20, ?1 WHERE NOT EXISTS (SELECT 1 FROM {o} WHERE id = 20)", "s"),
        ("INSERT INTO {o} (id, ssn) SELECT g, ?1 FROM generate_series(20, 25) g", "same"),
    ),
]

_SETS: Final = [
    *cases(
        "NULLIF of constants",
        ALL,
        "UPDATE {t} SET ssn = NULLIF('a', 'b') WHERE id = 1 RETURNING ssn",
        ("UPDATE {t} SET ssn = NULLIF(?1, '') WHERE id = 1 RETURNING ssn", ""),
        ("UPDATE {t} SET ssn = NULLIF(?1::text, '') WHERE id = 1 RETURNING ssn", "q"),
        ("UPDATE {t} SET pin = NULLIF(?1::int, 0::int) WHERE id = 1 RETURNING pin", 0),
    ),
    *cases(
        "CASE of parameters, as ORMs send it",
        ALL,
        (
            "UPDATE {t} SET ssn = CASE WHEN id = 1 THEN ?1::text WHEN id = 2 THEN ?2::text ELSE NULL END::varchar"
            " WHERE id IN (1, 2) RETURNING ssn",
            "a",
            "z",
        ),
        (
            "UPDATE {t} p SET ssn = v.s FROM unnest(?1::int[], ?2::text[]) v(i, s) WHERE v.i = p.id"
            " RETURNING p.ssn",
            [1, 2],
            ["a", "b"],
        ),
    ),
]

_MERGES: Final = [
    *cases(
        "MERGE",
        ALL,
        "MERGE INTO {t} USING visits v ON v.id = {t}.id WHEN MATCHED THEN UPDATE SET ssn = 'x'",
        "MERGE INTO {t} t USING (VALUES (1, 'p'), (30, 'q')) s(i, v) ON t.id = s.i WHEN MATCHED THEN UPDATE"
        " SET ssn = s.v, level = DEFAULT WHEN NOT MATCHED THEN INSERT (id, ssn) VALUES (s.i, s.v)",
        (
            "MERGE INTO {t} t USING (SELECT ?1::int AS i, ?2::text AS v) s ON t.id = s.i WHEN MATCHED AND"
            " t.n > ?3 THEN DELETE WHEN MATCHED THEN UPDATE SET (ssn, alias) = (s.v, 'al') WHEN NOT MATCHED"
            " THEN INSERT (id, ssn, level) VALUES (s.i, s.v, DEFAULT)",
            *(1, "z", 5),
        ),
        (
            "MERGE INTO {t} t USING (SELECT ?1::int AS i, ?2::text AS v) s ON t.id = s.i WHEN NOT MATCHED"
            " THEN INSERT (id, ssn, level) VALUES (s.i, s.v, DEFAULT)",
            *(40, "z"),
        ),
        "MERGE INTO {t} t USING {o} s ON t.id = s.person WHEN MATCHED THEN UPDATE SET ssn = s.ssn"
        " WHEN NOT MATCHED THEN INSERT (id, ssn, level) VALUES (s.id + 50, s.ssn, 'x')",
        (
            "MERGE INTO {o} t USING unnest(?1::int[], ?2::text[]) s(i, v) ON t.id = s.i WHEN MATCHED THEN"
            " UPDATE SET ssn = COALESCE(s.v, t.ssn) WHEN NOT MATCHED THEN INSERT (id, ssn) VALUES (i, v)",
            [1, 50],
            ["u", "w"],
        ),
        "MERGE INTO visits t USING {t} s ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id, note)"
        " VALUES (s.id, s.name) WHEN MATCHED THEN DELETE",
        "MERGE INTO {o} t USING visits s ON t.id = s.id + 100 WHEN NOT MATCHED THEN"
        " INSERT VALUES (s.id + 100, s.person, 'ssn', s.note)",
    ),
    *cases(
        "MERGE by equality",
        COMPARABLE,
        "MERGE INTO {t} t USING {o} s ON t.ssn = s.ssn AND t.id = 1 WHEN MATCHED THEN UPDATE SET name = s.note"
        " WHEN NOT MATCHED THEN DO NOTHING",
    ),
    *cases(
        "MERGE of something else",
        NONE,
        "MERGE INTO {t} t USING visits s ON t.id = s.id WHEN MATCHED THEN UPDATE SET ssn = s.note",
        "MERGE INTO {t} t USING visits s ON t.id = s.id WHEN MATCHED THEN UPDATE SET name = t.ssn",
        "MERGE INTO visits t USING {t} s ON t.id = s.id WHEN MATCHED THEN UPDATE SET note = s.ssn",
        "MERGE INTO visits t USING {t} s ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id, note)"
        " VALUES (s.id, s.ssn)",
        "MERGE INTO {o} t USING visits s ON t.id = s.id + 100 WHEN NOT MATCHED THEN"
        " INSERT VALUES (s.id + 100, s.person, s.note, 'x')",
        "MERGE INTO {t} t USING visits s ON t.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.note)",
    ),
]

_CTES: Final = [
    *cases(
        "writable CTE",
        ALL,
        "WITH x AS (INSERT INTO {t} (id, ssn) VALUES (20, 'a') RETURNING id, ssn) SELECT id, ssn FROM x",
        (
            "WITH x AS (INSERT INTO {t} (id, ssn) VALUES (20, ?1) RETURNING id, ssn), y AS (UPDATE {o}"
            " SET ssn = ?2 WHERE id = 1 RETURNING ssn) SELECT x.ssn, y.ssn FROM x, y",
            *("a", "b"),
        ),
        "WITH d AS (DELETE FROM {t} WHERE id = 1 RETURNING *) INSERT INTO {t} SELECT id + 50, name, ssn, alias,"
        " pin, born, level, n FROM d RETURNING ssn, level",
    ),
    *cases(
        "UPDATE SET a row of cells",
        ALL,
        "UPDATE {t} SET (ssn, name) = (SELECT o.ssn, o.note FROM {o} o WHERE o.person = {t}.id) RETURNING ssn",
        "DELETE FROM {t} USING {o} o WHERE o.person = {t}.id RETURNING {t}.ssn, o.ssn",
    ),
    *cases(
        "one parameter in several roles",
        COMPARABLE,
        ("UPDATE {t} SET ssn = ?1, name = ?1 WHERE ssn = ?1 RETURNING id, ssn, name", "123-45-6789"),
    ),
    *cases(
        "one parameter for two columns",
        ALL,
        ("INSERT INTO {t} (id, ssn, level) VALUES (20, ?1, ?1)", "same"),
        ("INSERT INTO {o} (id, ssn, note) VALUES (20, ?1, ?1)", "same"),
    ),
    *cases(
        "a value of each row that only the server knows",
        NONE,
        "UPDATE {t} SET ssn = gen_random_uuid()",
        "INSERT INTO {t} (id, ssn, level) SELECT 20, gen_random_uuid(), 'x'",
    ),
]

CASES: Final[Sequence[Case]] = (*_SELECTS, *_SETS, *_MERGES, *_CTES)
