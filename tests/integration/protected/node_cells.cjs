// node-postgres, pg-cursor and postgres.js over a protected table: `node_cells.cjs DRIVER PORT DATABASE`.
// `cells` is protected, `twins` is not; whatever is asked of both must be answered alike, fields included.
// Prints the name of each check that held, one a line; exits 1 at the first that did not.
"use strict";

const assert = require("node:assert/strict");
const [driver, port, database] = process.argv.slice(2);
const where = { host: "127.0.0.1", port: Number(port), database, user: "app" };
const columns = ["a_text", "a_varchar", "a_stored", "a_small", "a_int", "a_big", "a_number", "a_float", "a_bool",
  "a_date", "a_time", "a_moment", "a_uuid", "a_json", "a_jsonb", "a_bytea"];
const rows = [
  ["zwölf 🐘 'x' \\", "x".repeat(20), "stored", -7, 2147483647, "9007199254740993", "12.50", 0.1, true,
    "1999-12-31", "2024-02-29 12:30:00.123456", "2024-02-29T12:30:00+02:00", "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    { b: [1, null], a: "ä" }, { a: "ä", b: [1, null] }, Buffer.from([0, 255, 92])],
  ["", "", "", 0, -1, "0", "-0.01", -1e300, false, "0001-01-01", "1970-01-01", "1970-01-01Z",
    "00000000-0000-0000-0000-000000000000", [], "text", Buffer.alloc(0)],
  columns.map(() => null),
];
const places = (from) => columns.map((_, n) => `$${n + from}`).join(", ");
const inserted = (table) => `INSERT INTO ${table} (id, ${columns}) VALUES ($1, ${places(2)})`;
const sent = (row) => row.map((value, n) => (columns[n].startsWith("a_json") && value !== null ? JSON.stringify(value) : value));

async function both(client, query) {
  const [cells, twins] = [await client.query(query("cells")), await client.query(query("twins"))];
  const fields = (answer) => answer.fields.map((f) => [f.name, f.dataTypeID, f.dataTypeSize, f.dataTypeModifier, f.format]);
  assert.deepEqual(cells.rows, twins.rows);
  assert.deepEqual(fields(cells), fields(twins));
  assert.equal(cells.rowCount, twins.rowCount);
  return cells.rows;
}

async function refused(promise, code = "PS001") {
  await assert.rejects(promise, { code });
}

const checks = {
  "node-postgres": {
    async parameters_and_results(client) {
      for (const [id, row] of rows.entries()) {
        await both(client, (t) => ({ text: inserted(t), values: [id, ...sent(row)] }));
      }
      const read = await both(client, (t) => `SELECT * FROM ${t} ORDER BY id`);
      assert.deepEqual([read[0].a_text, read[0].a_big, read[0].a_jsonb], [rows[0][0], rows[0][5], rows[0][14]]);
      assert.deepEqual(Object.values(read[2]).slice(1), rows[2]);
    },
    async binary_results(client) {
      // node-postgres itself decodes few types in binary; rows of the others stay in text
      await both(client, (t) => ({ text: `SELECT id, a_int, a_small, a_bool, a_text, a_bytea FROM ${t} ORDER BY id`, binary: true }));
    },
    async named_statements(client) {
      for (let n = 0; n < 20; n++) {
        const query = (t) => ({ name: `by-text-${t}`, text: `SELECT id, a_varchar FROM ${t} WHERE a_text = $1`, values: [rows[n % 2][0]] });
        assert.equal((await both(client, query))[0].id, n % 2);
      }
    },
    async equality(client) {
      for (const n of [0, 1, 4, 6, 9, 12]) {
        const read = await both(client, (t) => ({ text: `SELECT id FROM ${t} WHERE ${columns[n]} = $1`, values: [rows[0][n]] }));
        assert.deepEqual(read, [{ id: 0 }]);
        await both(client, (t) => ({ text: `SELECT id FROM ${t} WHERE ${columns[n]} = ANY($1)`, values: [[rows[1][n], null]] }));
      }
    },
    async several_results(client) {
      const text = (t) => `SELECT a_text FROM ${t} WHERE id = 0; UPDATE ${t} SET a_int = 9 WHERE id = 2; SELECT a_int FROM ${t} ORDER BY id`;
      const [cells, twins] = [await client.query(text("cells")), await client.query(text("twins"))];
      assert.deepEqual(cells.map((a) => [a.command, a.rowCount, a.rows]), twins.map((a) => [a.command, a.rowCount, a.rows]));
    },
    async queued_queries(client) {
      const answers = await Promise.all([...Array(60).keys()].map((n) => client.query("SELECT a_text FROM cells WHERE id = $1", [n % 2])));
      assert.deepEqual(answers.map((a) => a.rows[0].a_text), [...Array(60).keys()].map((n) => rows[n % 2][0]));
    },
    async returning_and_upsert(client) {
      const text = (t) => `INSERT INTO ${t} (id, a_text) VALUES (5, $1) ON CONFLICT (id) DO UPDATE SET a_text = EXCLUDED.a_text RETURNING a_text`;
      for (const value of ["one", "two"]) {
        assert.deepEqual(await both(client, (t) => ({ text: text(t), values: [value] })), [{ a_text: value }]);
      }
      await both(client, (t) => ({ text: `DELETE FROM ${t} WHERE a_text = $1 RETURNING *`, values: ["two"] }));
    },
    async errors_and_transactions(client) {
      await client.query("BEGIN");
      await assert.rejects(client.query("INSERT INTO cells (id, a_text) VALUES ($1, 'dup')", [1]), {
        code: "23505", table: "cells", detail: "Key (id)=(1) already exists.",
      });
      await refused(client.query("SELECT 1"), "25P02");
      await client.query("ROLLBACK");
      await refused(client.query("INSERT INTO cells (id, a_varchar) VALUES (9, $1)", ["x".repeat(21)]), "22001");
      await refused(client.query("SELECT id FROM cells WHERE a_text LIKE $1", ["z%"]));
      await refused(client.query("SELECT lower(a_text) FROM cells"));
      assert.equal((await client.query("SELECT count(*)::int n FROM cells")).rows[0].n, 3);
    },
    async a_pool() {
      const { Pool } = require("pg");
      const pool = new Pool({ ...where, max: 4 });
      const answers = await Promise.all([...Array(40).keys()].map((n) => pool.query("SELECT a_float FROM cells WHERE id = $1", [n % 2])));
      assert.deepEqual(answers.map((a) => a.rows[0].a_float), [...Array(40).keys()].map((n) => rows[n % 2][7]));
      await pool.end();
    },
  },
  "pg-cursor": {
    async read_in_pieces(client) {
      const Cursor = require("pg-cursor");
      for (let n = 0; n < 50; n++) await client.query("INSERT INTO cells (id, a_text) VALUES ($1, $2)", [n, `t${n}`]);
      const cursor = client.query(new Cursor("SELECT a_text FROM cells WHERE id >= $1 ORDER BY id", [10]));
      const texts = [];
      for (let read = await cursor.read(7); read.length; read = await cursor.read(7)) texts.push(...read.map((r) => r.a_text));
      assert.deepEqual(texts, [...Array(40).keys()].map((n) => `t${n + 10}`));
      await cursor.close();
    },
    async closed_before_its_end(client) {
      const Cursor = require("pg-cursor");
      const cursor = client.query(new Cursor("SELECT a_text FROM cells ORDER BY id"));
      assert.deepEqual((await cursor.read(2)).map((r) => r.a_text), ["t0", "t1"]);
      await cursor.close();
      assert.equal((await client.query("SELECT a_text FROM cells WHERE a_text = 't9'")).rows[0].a_text, "t9");
    },
    async refused_at_the_first_read(client) {
      const Cursor = require("pg-cursor");
      const cursor = client.query(new Cursor("SELECT max(a_text) FROM cells"));
      await refused(cursor.read(10));
      assert.equal((await client.query("SELECT 1 AS one")).rows[0].one, 1);
    },
  },
  "postgres.js": {
    async parameters_and_results(sql) {
      for (const table of ["cells", "twins"]) {
        for (const [id, row] of rows.entries()) {
          const named = Object.fromEntries(columns.map((name, n) => [name, row[n]]));
          await sql`INSERT INTO ${sql(table)} ${sql({ id, ...named })}`;
        }
      }
      const [cells, twins] = [await sql`SELECT * FROM cells ORDER BY id`, await sql`SELECT * FROM twins ORDER BY id`];
      assert.deepEqual([...cells], [...twins]);
      assert.deepEqual(cells.columns.map((c) => [c.name, c.type]), twins.columns.map((c) => [c.name, c.type]));
      assert.deepEqual(cells[0].a_bytea, rows[0][15]);
    },
    async equality_and_lists(sql) {
      assert.deepEqual([...await sql`SELECT id FROM cells WHERE a_text = ${rows[0][0]}`], [{ id: 0 }]);
      assert.deepEqual([...await sql`SELECT id FROM cells WHERE a_int IN ${sql([-1, 5])}`], [{ id: 1 }]);
      assert.deepEqual([...await sql`SELECT id FROM cells WHERE a_text = ANY(${[rows[1][0]]})`], [{ id: 1 }]);
    },
    async many_rows_of_one_insert(sql) {
      const many = [...Array(50).keys()].map((n) => ({ id: 100 + n, a_text: `p${n}`, a_number: n / 4 }));
      const returned = await sql`INSERT INTO cells ${sql(many)} RETURNING a_text, a_number`;
      assert.deepEqual([...returned], many.map((m) => ({ a_text: m.a_text, a_number: m.a_number.toFixed(2) })));
      await sql`UPDATE cells SET ${sql({ a_text: "all", a_date: "2020-02-02" })} WHERE id >= 100`;
      assert.equal((await sql`SELECT id FROM cells WHERE a_text = 'all' AND a_date = ${"2020-02-02"}`).length, 50);
    },
    async pipelined_queries(sql) {
      const answers = await Promise.all([...Array(100).keys()].map((n) => sql`SELECT a_float FROM cells WHERE id = ${n % 2}`));
      assert.deepEqual(answers.map((a) => a[0].a_float), [...Array(100).keys()].map((n) => rows[n % 2][7]));
    },
    async a_cursor(sql) {
      let n = 0;
      await sql`SELECT a_text FROM cells WHERE id >= 100`.cursor(7, (read) => { n += read.filter((r) => r.a_text === "all").length; });
      assert.equal(n, 50);
    },
    async a_transaction_with_savepoint(sql) {
      await sql.begin(async (tx) => {
        await tx`UPDATE cells SET a_text = 'kept' WHERE id = 0`;
        await tx.savepoint(async (inner) => {
          await inner`UPDATE cells SET a_text = 'lost' WHERE id = 0`;
          await inner`SELECT 1 / 0`;
        }).catch((error) => assert.equal(error.code, "22012"));
      });
      assert.equal((await sql`SELECT a_text FROM cells WHERE id = 0`)[0].a_text, "kept");
    },
    async refusals(sql) {
      await refused(sql`SELECT a_text || 'x' FROM cells`);
      await refused(sql`SELECT upper(a_text) FROM cells`);
      assert.equal((await sql`SELECT 1 AS one`)[0].one, 1);
    },
  },
};

async function main() {
  if (driver === "postgres.js") {
    const sql = require("postgres")({ ...where, max: 1, onnotice() {} });
    for (const [name, check] of Object.entries(checks[driver])) {
      await check(sql);
      console.log(name);
    }
    await sql.end();
    return;
  }
  const { Client } = require("pg");
  const client = new Client(where);
  await client.connect();
  for (const [name, check] of Object.entries(checks[driver])) {
    await check(client);
    console.log(name);
  }
  await client.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
