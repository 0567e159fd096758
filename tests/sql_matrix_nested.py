"""Cases of the matrix of SQL: arrays and JSON documents with sealed columns in them.

One reason to change: such a form is promised, or no longer refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.sql_cases import ALL, NONE, Case, cases

ARRAYS: Final = [
    *cases(
        "array_agg, ARRAY(SELECT), ARRAY[] of a sealed column",
        ALL,
        "SELECT array_agg(ssn ORDER BY id) FROM {t}",
        "SELECT array_agg(ssn ORDER BY id DESC) FILTER (WHERE n > 2), count(*) FROM {t}",
        "SELECT array_agg(alias ORDER BY id), array_agg(pin ORDER BY id), array_agg(born ORDER BY id) FROM {t}",
        "SELECT array_agg(ssn) FROM {t} WHERE false",
        "SELECT n % 2 AS half, array_agg(ssn ORDER BY id), ssn IS NULL FROM {t} GROUP BY 1, 3 ORDER BY 1, 3",
        "SELECT id, array_agg(ssn) OVER (ORDER BY id) FROM {t} ORDER BY id",
        "SELECT ARRAY(SELECT ssn FROM {t} ORDER BY id)",
        "SELECT ARRAY(SELECT alias FROM {t} ORDER BY id), ARRAY(SELECT pin FROM {t} WHERE false)",
        "SELECT id, ARRAY(SELECT o.ssn FROM {o} o WHERE o.person = p.id) AS theirs, ssn FROM {t} p ORDER BY id",
        "SELECT ARRAY[ssn, ssn], ARRAY[alias] FROM {t} ORDER BY id",
        ("SELECT ARRAY[ssn, ?1, NULL, 'x'] FROM {t} ORDER BY id", "O'Brien"),
        "SELECT q.a FROM (SELECT array_agg(ssn ORDER BY id) FROM {t}) q(a)",
        "WITH c AS (SELECT n % 2 AS h, array_agg(ssn ORDER BY id) AS a FROM {t} GROUP BY 1)"
        " SELECT * FROM c ORDER BY h",
        "SELECT COALESCE(array_agg(ssn), '{}') FROM {t} WHERE false",
        "SELECT array_agg(ssn ORDER BY id) IS NULL FROM {t}",
        "SELECT array_agg(ssn ORDER BY id) FROM {t} UNION ALL SELECT array_agg(ssn ORDER BY id) FROM {o}",
        "SELECT array_agg(COALESCE(ssn, 'none') ORDER BY id) FROM {t}",
        "SELECT array_agg(n ORDER BY id), ARRAY[id, 2] FROM {t} GROUP BY id ORDER BY id",
    ),
    *cases(
        "an array of cells that is looked into",
        NONE,
        "SELECT array_agg(DISTINCT ssn) FROM {t}",
        "SELECT array_agg(ssn ORDER BY ssn) FROM {t}",
        "SELECT (array_agg(ssn))[1] FROM {t}",
        "SELECT array_to_string(array_agg(ssn), ',') FROM {t}",
        "SELECT unnest(array_agg(ssn)) FROM {t}",
        "SELECT array_agg(ssn)::text FROM {t}",
        "SELECT array_agg(ssn) || array_agg(ssn) FROM {t}",
        "SELECT cardinality(ARRAY[ssn]) FROM {t}",
        "SELECT array_agg(ARRAY[ssn]) FROM {t}",
        "SELECT ARRAY[ssn, name] FROM {t}",
        "SELECT 1 FROM {t} GROUP BY ARRAY[ssn]",
        "SELECT DISTINCT q.a FROM (SELECT ARRAY[ssn] AS a FROM {t}) q",
        "SELECT id FROM {t} WHERE ARRAY[ssn] = ARRAY['x']",
        "SELECT string_agg(ssn, ',') FROM {t}",
    ),
]

DOCUMENTS: Final = [
    *cases(
        "json_agg, json_build_object, row_to_json, to_jsonb and their kin",
        ALL,
        "SELECT json_agg(ssn ORDER BY id), jsonb_agg(ssn ORDER BY id) FROM {t}",
        "SELECT json_agg(p ORDER BY id) FROM {t} p",
        "SELECT jsonb_agg(p ORDER BY id) FROM {t} p",
        "SELECT json_agg(p.* ORDER BY id) FROM {t} p",
        "SELECT row_to_json(p) FROM {t} p ORDER BY id",
        "SELECT row_to_json({t}), {t}.ssn FROM {t} ORDER BY id",
        "SELECT row_to_json(p, true) FROM {t} p ORDER BY id",
        "SELECT to_json(p), to_jsonb(p) FROM {t} p ORDER BY id",
        "SELECT to_json(p.*), to_jsonb(p.*) FROM {t} p ORDER BY id",
        "SELECT to_json(ssn), to_jsonb(pin), to_json(born), to_jsonb(alias) FROM {t} ORDER BY id",
        "SELECT json_build_object('k', ssn, 'n', n, 'b', born, 'p', pin) FROM {t} ORDER BY id",
        "SELECT jsonb_build_object('longer', ssn, 'n', n, 'b', born, 'p', pin, 'a', name) FROM {t} ORDER BY id",
        "SELECT json_build_array(ssn, n, 'x', pin), jsonb_build_array(1, born) FROM {t} ORDER BY id",
        "SELECT json_object_agg(id, ssn ORDER BY id), jsonb_object_agg(name, pin) FROM {t}",
        "SELECT json_build_object('list', json_agg(json_build_object('s', ssn, 'i', id) ORDER BY id)) FROM {t}",
        "SELECT jsonb_build_object('list', json_agg(json_build_array(id, ssn) ORDER BY id)) FROM {t}",
        "SELECT json_build_object('a', array_agg(ssn ORDER BY id), 'b',"
        " ARRAY(SELECT ssn FROM {o} ORDER BY id)) FROM {t}",
        "SELECT row_to_json(ROW(id, ssn, p)) FROM {t} p ORDER BY id",
        "SELECT json_agg(json_build_object('k', ssn, 'é \"q\" \\', 1) ORDER BY id) FROM {t}",
        "SELECT array_to_json(array_agg(ssn ORDER BY id)),"
        " array_to_json(array_agg(pin ORDER BY id), true) FROM {t}",
        "SELECT json_agg(ssn)::jsonb, jsonb_agg(born)::json FROM {t} WHERE id = 1",
        ("SELECT json_build_object('k', ssn, 'v', ?1::text) FROM {t} WHERE id = ?2", "\\xa60b3501", 1),
        "SELECT json_agg(ssn) FROM {t} WHERE false",
        "SELECT json_agg(COALESCE(ssn, 'none') ORDER BY id) FROM {t}",
        "SELECT json_build_object('k', CASE WHEN n > 3 THEN ssn END) FROM {t} ORDER BY id",
        "SELECT json_agg(n ORDER BY id), json_build_object('n', name, 'n', n) FROM {t} GROUP BY id ORDER BY id",
        "SELECT count(p), json_agg(ssn ORDER BY id) IS NULL FROM {t} p",
    ),
    *cases(
        "JSON as PostgREST, Hasura and Prisma ask for it",
        ALL,
        "SELECT coalesce(json_agg(row_to_json(x)), '[]') FROM (SELECT id, ssn, born FROM {t} ORDER BY id) x",
        "SELECT coalesce(json_agg(x), '[]')::text IS NULL FROM (SELECT id FROM {t}) x",
        "WITH pgrst_source AS (SELECT {t}.id, {t}.ssn FROM {t} ORDER BY id) SELECT null::bigint AS total,"
        " pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body"
        " FROM (SELECT * FROM pgrst_source) _postgrest_t",
        'SELECT coalesce(json_agg("root"), \'[]\') AS "root" FROM (SELECT row_to_json((SELECT "_e" FROM'
        ' (SELECT "_0"."id" AS "id", "_0"."ssn" AS "ssn") AS "_e")) AS "root" FROM'
        ' (SELECT * FROM {t} WHERE (\'true\') ORDER BY id) AS "_0") AS "_1"',
        'SELECT "t1"."id", "t1"."alias", "x"."__prisma_data__" AS "others" FROM {t} AS "t1" LEFT JOIN LATERAL'
        ' (SELECT COALESCE(JSONB_AGG("__prisma_data__"), \'[]\') AS "__prisma_data__" FROM'
        ' (SELECT "t3"."__prisma_data__" FROM (SELECT JSONB_BUILD_OBJECT(\'id\', "t2"."id", \'ssn\', "t2"."ssn")'
        ' AS "__prisma_data__" FROM (SELECT "o".* FROM {o} AS "o" WHERE "t1"."id" = "o"."person") AS "t2")'
        ' AS "t3") AS "t4") AS "x" ON TRUE ORDER BY "t1"."id"',
        "SELECT p.id, (SELECT json_agg(o) FROM {o} o WHERE o.person = p.id) AS others FROM {t} p ORDER BY p.id",
        "SELECT json_agg(o ORDER BY p.id) FROM {t} p LEFT JOIN {o} o ON o.person = p.id",
        "SELECT json_build_object('p', p, 'o', o, 'v', v) FROM {t} p LEFT JOIN {o} o ON o.person = p.id"
        " LEFT JOIN visits v ON v.person = p.id ORDER BY p.id, v.id",
        "SELECT CASE WHEN count(*) = 0 THEN '[]'::json ELSE json_agg(x) END"
        " FROM (SELECT ssn FROM {t} WHERE n > 9) x",
        "SELECT (SELECT jsonb_agg(x) FROM (SELECT ssn, json_build_object('p', pin) AS j FROM {t} ORDER BY id) x)",
        "SELECT COALESCE(json_agg(x), NULL, 'null') FROM (SELECT ssn FROM {t} WHERE false) x",
    ),
    *cases(
        "JSON in RETURNING",
        ALL,
        ("INSERT INTO {t} (id, ssn) VALUES (20, ?1) RETURNING json_build_object('s', ssn, 'i', id)", "1-1"),
        ("UPDATE {t} SET ssn = ?1 WHERE id < 3 RETURNING to_json({t})", "1-1"),
        ("WITH w AS (INSERT INTO {t} (id, ssn) VALUES (20, ?1) RETURNING *) SELECT json_agg(w) FROM w", "1-1"),
    ),
    *cases(
        "a document with cells that is looked into",
        NONE,
        "SELECT json_agg(ssn) -> 0 FROM {t}",
        "SELECT json_build_object('a', ssn) ->> 'a' FROM {t}",
        "SELECT to_jsonb(p) #>> '{ssn}' FROM {t} p",
        "SELECT q.j ->> 'a' FROM (SELECT json_build_object('a', ssn) AS j FROM {t}) q",
        "SELECT to_jsonb(p) - 'id' FROM {t} p",
        "SELECT to_jsonb(p) || '{}'::jsonb FROM {t} p",
        "SELECT jsonb_set(to_jsonb(p), '{id}', '1') FROM {t} p",
        "SELECT json_agg(ssn)::text FROM {t}",
        "SELECT jsonb_pretty(to_jsonb(p)) FROM {t} p",
        "SELECT json_strip_nulls(row_to_json(p)) FROM {t} p",
        "SELECT * FROM {t} p, json_each(row_to_json(p))",
        "SELECT key FROM {t} p, LATERAL jsonb_each_text(to_jsonb(p))",
        "SELECT json_array_length(json_agg(ssn)) FROM {t}",
        "SELECT DISTINCT to_jsonb(p) FROM {t} p",
        "SELECT DISTINCT id, to_jsonb(p) FROM {t} p",
        "SELECT id FROM {t} p ORDER BY to_jsonb(p)",
        "SELECT to_jsonb(p) FROM {t} p ORDER BY 1",
        "SELECT count(*) FROM {t} p GROUP BY to_jsonb(p)",
        "SELECT count(DISTINCT to_jsonb(p)) FROM {t} p",
        "SELECT to_jsonb(p) FROM {t} p UNION SELECT to_jsonb(p) FROM {t} p",
        "SELECT to_jsonb(ssn) FROM {t} UNION ALL SELECT to_jsonb(name) FROM {t}",
        "SELECT to_jsonb(ssn) FROM {t} UNION ALL SELECT to_jsonb(pin) FROM {t}",
        "SELECT to_jsonb(ssn) FROM {t} UNION ALL SELECT jsonb_build_object('a', ssn) FROM {t}",
        "SELECT COALESCE(to_jsonb(ssn), to_jsonb(name)) FROM {t}",
        "SELECT COALESCE(json_agg(ssn), '[\"none\"]') FROM {t}",
        ("SELECT COALESCE(json_agg(ssn), ?1) FROM {t}", '["x"]'),
        "SELECT id FROM {t} p WHERE to_jsonb(p) = '{}'",
        "SELECT id FROM {t} p WHERE to_jsonb(p) @> '{}'",
        "SELECT id FROM {t} p WHERE to_jsonb(ssn) IN (SELECT to_jsonb(ssn) FROM {t})",
        "SELECT json_build_object('a', ssn, 'a', name) FROM {t}",
        "SELECT jsonb_build_object('a', name, 'a', ssn) FROM {t}",
        "SELECT json_build_object(name, ssn) FROM {t}",
        "SELECT json_build_object(ssn, name) FROM {t}",
        "SELECT json_object_agg(ssn, id) FROM {t}",
        "SELECT row_to_json(x) FROM (SELECT id AS a, ssn AS a FROM {t}) x",
        "SELECT json_build_object(VARIADIC ARRAY['a', ssn]) FROM {t}",
        "SELECT jsonb_agg(DISTINCT ssn) FROM {t}",
        "SELECT json_agg(ssn ORDER BY ssn) FROM {t}",
        "SELECT max(to_jsonb(ssn)::text) FROM {t}",
        "SELECT array_agg(to_jsonb(p)) FROM {t} p",
        "SELECT p FROM {t} p",
        "SELECT (p) IS DISTINCT FROM NULL FROM {t} p",
        "UPDATE {t} SET name = to_jsonb(ssn)::text",
        "UPDATE {t} SET name = to_jsonb(ssn) #>> '{}'",
        "UPDATE {o} SET note = (SELECT json_agg(ssn) FROM {t})",
        "INSERT INTO {o} (id, note) SELECT 30, json_agg(ssn) FROM {t}",
        "INSERT INTO {o} (id, ssn) SELECT 30, array_agg(ssn) FROM {t}",
        "INSERT INTO {o} (id, ssn) SELECT 30, to_json(ssn) FROM {t}",
    ),
]

CASES: Final[Sequence[Case]] = (*ARRAYS, *DOCUMENTS)
