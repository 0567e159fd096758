"""The queries behind a catalog snapshot: pg_catalog only, every name qualified, no row of any table.

One reason to change: what the catalogs of the supported versions look like.
"""

from __future__ import annotations

from typing import Final

SCHEMAS: Final = "SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_(temp|toast)'"

RELATIONS: Final = """
SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       array_agg(a.attname::text ORDER BY a.attnum) AS names,
       array_agg(a.attnum ORDER BY a.attnum) AS attnums,
       array_agg(a.atttypid::int8 ORDER BY a.attnum) AS types,
       array_agg(a.atttypmod ORDER BY a.attnum) AS typmods,
       array_agg(a.attnotnull ORDER BY a.attnum) AS not_nulls,
       array_agg(a.atthasdef OR a.attidentity <> '' ORDER BY a.attnum) AS defaults,
       array_agg(a.attgenerated <> '' ORDER BY a.attnum) AS generated
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_toast'
GROUP BY c.oid, n.nspname, c.relname, c.relkind
"""

INHERITS: Final = "SELECT inhrelid::int8 AS child, inhparent::int8 AS parent FROM pg_catalog.pg_inherits"

# which relations and functions the rules of a relation (a view's query is one) look at
REWRITES: Final = """
SELECT DISTINCT r.ev_class::int8 AS relation, r.rulename::text AS rule,
       CASE WHEN d.refclassid = 'pg_catalog.pg_class'::regclass THEN d.refobjid::int8 ELSE 0 END AS relation_used,
       coalesce(p.proname::text, '') AS function_used
FROM pg_catalog.pg_rewrite r
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
     AND d.refclassid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
     AND NOT (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = r.ev_class)
LEFT JOIN pg_catalog.pg_proc p ON d.refclassid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.refobjid
WHERE r.oid >= 16384
"""

TRIGGERS: Final = """
SELECT tgrelid::int8 AS relation, (tgtype::int & 64) <> 0 AS is_instead
FROM pg_catalog.pg_trigger WHERE NOT tgisinternal
"""

VIEWS: Final = """
SELECT c.oid::int8 AS oid, pg_catalog.pg_get_viewdef(c.oid) AS query,
       (pg_catalog.pg_relation_is_updatable(c.oid, false) & 28) = 28 AS is_updatable
FROM pg_catalog.pg_class c WHERE c.oid = ANY($1::int8[]::oid[])
"""

# functions outside the system: their code, and the row types they take or give
FUNCTIONS: Final = """
SELECT p.oid::int8 AS oid, p.proname::text AS name, p.prosrc AS source,
       coalesce((SELECT array_agg(DISTINCT coalesce(nullif(e.typrelid, 0), t.typrelid)::int8)
                 FROM unnest(p.prorettype || p.proargtypes::oid[] || coalesce(p.proallargtypes, '{}'))
                      AS used(type)
                 JOIN pg_catalog.pg_type t ON t.oid = used.type
                 LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
                 WHERE t.typrelid <> 0 OR e.typrelid <> 0), '{}') AS row_types,
       coalesce((SELECT array_agg(DISTINCT d.refobjid::int8) FROM pg_catalog.pg_depend d
                 WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid
                 AND d.refclassid = 'pg_catalog.pg_class'::regclass), '{}') AS relations
FROM pg_catalog.pg_proc p WHERE p.oid >= 16384 AND p.prosrc IS NOT NULL
"""

UNIQUE: Final = """
SELECT i.indrelid::int8 AS relation, array_agg(a.attname::text ORDER BY k.place) AS columns
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
  AND i.indexrelid >= 16384 AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid, i.indrelid
"""

GUARDS: Final = """
SELECT conrelid::int8 AS relation, conname::text AS name
FROM pg_catalog.pg_constraint
WHERE contype = 'c' AND convalidated AND conname ~ '^pgseal_[0-9a-f]{16}$'
"""

# one number a catalog: any row made, changed or removed changes it (in-place updates of VACUUM do not)
_PART: Final = (
    "SELECT '{0}' AS part, count(*) AS n,"
    " coalesce(sum(pg_catalog.hashtextextended(concat_ws(':', t.oid, t.xmin, t.ctid), 0)::numeric), 0) AS hash"
    " FROM pg_catalog.{0} t"
)
_KEYED: Final = ("pg_class", "pg_namespace", "pg_constraint", "pg_proc", "pg_rewrite", "pg_trigger", "pg_policy")
_ROWS: Final = (
    "SELECT '{0}', count(*),"
    " coalesce(sum(pg_catalog.hashtextextended(concat_ws(':', t.xmin, t.ctid), 0)::numeric), 0)"
    " FROM pg_catalog.{0} t"
)
_UNKEYED: Final = ("pg_attribute", "pg_inherits", "pg_index")
_PARTS: Final = " UNION ALL ".join([_PART.format(name) for name in _KEYED] + [_ROWS.format(n) for n in _UNKEYED])
FINGERPRINT: Final = f"""
SELECT pg_catalog.md5(pg_catalog.string_agg(part || n || ':' || hash, ',' ORDER BY part))
FROM ({_PARTS}) AS parts
"""  # noqa: S608 - the names are those above
