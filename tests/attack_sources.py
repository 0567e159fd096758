"""Attacks by where a written value comes from: MERGE, INSERT .. SELECT, conflicts, questions to the server.

The tables are those of `tests/attack_world.py`; `canary` is a plaintext that may reach no server in any form.
One reason to change: another way was thought of.
"""

from __future__ import annotations

from typing import Final

SOURCES: Final[dict[str, tuple[str, ...]]] = {
    "merge": (
        "MERGE INTO people p USING (VALUES (1,'canary')) s(i,v) ON p.id=s.i WHEN MATCHED THEN UPDATE SET ssn=s.v",
        "MERGE INTO people p USING (VALUES (1,'canary')) s(i,v) ON p.id=s.i WHEN MATCHED THEN"
        " UPDATE SET name=s.v,"
        " ssn=s.v",
        "MERGE INTO people p USING (SELECT 1 AS i,'canary' AS v) s ON p.ssn=s.v WHEN NOT MATCHED"
        " THEN INSERT (id,ssn)"
        " VALUES (50,s.v)",
        "MERGE INTO people p USING (VALUES (90,'canary')) s(i,v) ON p.id=s.i WHEN NOT MATCHED THEN"
        " INSERT (id,name)"
        " VALUES (s.i,upper(s.v)) WHEN MATCHED AND p.ssn=s.v THEN DELETE",
        "MERGE INTO people p USING others o ON p.ssn=o.ssn WHEN MATCHED THEN UPDATE SET note=o.ssn",
        "MERGE INTO people p USING others o ON p.id=o.person WHEN MATCHED THEN UPDATE SET name=o.ssn",
        "MERGE INTO people p USING others o ON p.id=o.person WHEN MATCHED AND p.ssn<o.ssn THEN DELETE",
        "MERGE INTO people p USING others o ON p.id=o.person WHEN MATCHED AND length(o.ssn)=11 THEN DELETE",
        "MERGE INTO people p USING others o ON p.id=o.person WHEN MATCHED AND o.ssn='canary' THEN DELETE",
        "MERGE INTO people USING others ON ssn=ssn WHEN MATCHED THEN DELETE",
        "MERGE INTO people p USING LATERAL (SELECT p.ssn) s ON true WHEN MATCHED THEN DO NOTHING",
        "MERGE INTO people p USING (SELECT array_agg(ssn) a FROM others) s ON true WHEN MATCHED THEN UPDATE SET"
        " ssn=s.a[1]",
        "MERGE INTO people p USING visits v ON p.id=v.id WHEN MATCHED THEN UPDATE SET"
        " (ssn,name)=(v.ssn,'canary')",
        "MERGE INTO people p USING visits v ON p.id=v.id WHEN MATCHED THEN UPDATE SET"
        " (ssn,name)=('canary',v.ssn)",
        "MERGE INTO people p USING visits v ON p.id=v.id+90 WHEN NOT MATCHED THEN INSERT VALUES (v.id+90,v.ssn)",
        "MERGE INTO people p USING visits v ON p.id=v.id+90 WHEN NOT MATCHED THEN INSERT VALUES"
        " (v.id+90,'n',v.ssn)",
        "MERGE INTO people p USING visits v ON p.id=v.id+90 WHEN NOT MATCHED THEN INSERT (id,ssn[1])"
        " VALUES (v.id+90,'canary')",
        "MERGE INTO patients p USING patients q ON p.id=q.id WHEN MATCHED THEN UPDATE SET ssn=q.ssn",
        "MERGE INTO patients p USING patients q ON p.hospital_id='a' AND q.hospital_id='b' AND p.id=q.id"
        " WHEN MATCHED THEN UPDATE SET ssn=q.ssn",
        "MERGE INTO patients p USING hospitals h ON p.hospital_id=h.hid WHEN MATCHED THEN UPDATE"
        " SET hospital_id='b'",
        "MERGE INTO patients p USING hospitals h ON false WHEN NOT MATCHED THEN INSERT (hospital_id,id,ssn)"
        " VALUES (h.hid,77,'canary')",
        "WITH c AS (SELECT 'canary' AS x) MERGE INTO people p USING c ON p.id=1 WHEN MATCHED THEN UPDATE SET"
        " ssn=c.x, name=c.x",
    ),
    "select": (
        "INSERT INTO people (id,ssn) SELECT * FROM unnest('{50,51}'::int[], '{canary}'::text[])",
        "INSERT INTO people (id,ssn) SELECT * FROM unnest('{50}'::int[], '{canary,canary}'::text[])",
        "INSERT INTO people (id,ssn) SELECT * FROM unnest('{50}'::int[], '{{canary}}'::text[])",
        "INSERT INTO people (id,ssn,name) SELECT i,s,s FROM unnest('{50}'::int[], '{canary}'::text[]) u(i,s)",
        "INSERT INTO people (id,name,ssn) SELECT i,s,upper(s) FROM unnest('{50}'::int[],"
        " '{canary}'::text[]) u(i,s)",
        "INSERT INTO people (id,ssn) SELECT 50, x FROM (VALUES ('canary'),(NULL)) v(x) WHERE x LIKE 'c%'",
        "INSERT INTO people (id,ssn) SELECT 50, max(x) FROM (VALUES ('canary'),('b')) v(x)",
        "INSERT INTO people (id,ssn) SELECT 50, 'canary' UNION SELECT 50, 'canary'",
        "INSERT INTO people (id,ssn) SELECT 50, 'canary' INTERSECT SELECT 50, 'canary'",
        "INSERT INTO people (id,ssn) SELECT 50, CASE WHEN true THEN ssn ELSE name END FROM people WHERE id=1",
        "INSERT INTO people (id,ssn) SELECT 50, COALESCE(NULL, 'canary', name) FROM people WHERE id=1",
        "INSERT INTO people (id,ssn) SELECT DISTINCT 50, 'canary' FROM people",
        "INSERT INTO patients (hospital_id,id,ssn) SELECT 'b', id+50, ssn FROM patients WHERE hospital_id='a'",
        "INSERT INTO patients (hospital_id,id,ssn) SELECT hid, 50, 'canary' FROM hospitals",
        "INSERT INTO patients (hospital_id,id,ssn) SELECT q.hospital_id, p.id+50, p.ssn FROM"
        " patients p, patients q",
    ),
    "keys": (
        "INSERT INTO people (id,ssn) VALUES (50,'canary') ON CONFLICT (ssn) DO NOTHING",
        "INSERT INTO people (id,ssn) VALUES (50,'canary') ON CONFLICT (lower(ssn)) DO NOTHING",
        "INSERT INTO people (id,ssn) VALUES (50,'canary') ON CONFLICT (note) DO NOTHING",
        "INSERT INTO people (id,ssn) VALUES (50,'canary') ON CONFLICT (ssn) WHERE ssn='canary' DO NOTHING",
        "INSERT INTO people (id,ssn) VALUES (50,'canary') ON CONFLICT (id) WHERE ssn='canary' DO NOTHING",
        "INSERT INTO people (id,ssn) VALUES (50,'canary') ON CONFLICT (substring(ssn from 10 for 15)) DO NOTHING",
        "INSERT INTO people (id,ssn) VALUES (50,'canary') ON CONFLICT (id, (ssn)) DO NOTHING",
        "INSERT INTO people (id,ssn) VALUES (1,'canary') ON CONFLICT (id) DO UPDATE SET"
        " name=NULLIF(EXCLUDED.ssn,'x')",
        "INSERT INTO people (id,ssn) VALUES (1,'canary') ON CONFLICT ON CONSTRAINT people_pkey DO UPDATE SET"
        " ssn=EXCLUDED.ssn RETURNING ssn",
        "INSERT INTO patients (hospital_id,id,ssn) VALUES ('b',1,'canary') ON CONFLICT"
        " (hospital_id,id) DO UPDATE"
        " SET hospital_id='a', ssn=EXCLUDED.ssn",
    ),
    "questions": (
        "INSERT INTO people (id,ts) VALUES (50,now()) RETURNING id",
        "INSERT INTO people (id,ts,ssn) VALUES (50,now(),'canary') RETURNING id, ssn",
        "INSERT INTO people (id,ssn) VALUES (50,now()::text||'canary')",
        "INSERT INTO people (id,ssn) VALUES (50,nextval('nosuch'))",
        "INSERT INTO people (id,born) VALUES (50,current_date), (51,CURRENT_DATE::date) RETURNING id",
        "INSERT INTO people (id,pin) VALUES (50,now())",
        "INSERT INTO people (id,note) VALUES (50,gen_random_uuid()), (51,'canary') RETURNING id",
        "UPDATE people SET ts=now() WHERE ssn='canary' RETURNING id",
        "UPDATE people SET note=gen_random_uuid()",
        "INSERT INTO patients (hospital_id,id,note) VALUES (now()::text,50,'canary')",
        "INSERT INTO people (id,ts) VALUES (1,now())",
        "INSERT INTO people (id,ssn) VALUES (50,NULLIF('canary','canary')), (51,NULLIF('canary',NULL))",
    ),
}
