// node-postgres, pg-cursor and postgres.js over plain tables: `node_plain.cjs DRIVER HOST PORT DATABASE`.
// Prints the name of each check that held, one a line; exits 1 at the first that did not.
"use strict";

const assert = require("node:assert/strict");
const [driver, host, port, database] = process.argv.slice(2);
const where = { host, port: Number(port), database, user: "postgres" };
const rowsIn = "INSERT INTO t SELECT g, 's' || g FROM generate_series(1, 100) g";

const checks = {
  "node-postgres": {
    async values(client) {
      const values = [7, "9007199254740993", 1.5, true, "zwölf 🐘", Buffer.from([0, 255]), null, [1, 2], { a: [1] }];
      const { rows } = await client.query(
        "SELECT $1::int4 a, $2::int8 b, $3::float8 c, $4::bool d, $5::text e, $6::bytea f, $7::text g, $8::int4[] h, $9::jsonb i",
        values,
      );
      assert.deepEqual(Object.values(rows[0]), values);
    },
    async binary(client) {
      const { rows } = await client.query({ text: "SELECT $1::int4 a, $2::text b", values: [42, "x"], binary: true });
      assert.deepEqual(rows, [{ a: 42, b: "x" }]);
    },
    async named_statements(client) {
      for (let n = 1; n <= 20; n++) {
        const { rows } = await client.query({ name: "by-id", text: "SELECT s FROM t WHERE id = $1", values: [n] });
        assert.equal(rows[0].s, `s${n}`);
      }
    },
    async several_results(client) {
      const results = await client.query("SELECT 1 a; INSERT INTO t VALUES (500, 'n'); SELECT 2 b");
      assert.deepEqual(results.map((r) => r.command), ["SELECT", "INSERT", "SELECT"]);
    },
    async queued_queries(client) {
      const answers = await Promise.all([...Array(50).keys()].map((n) => client.query("SELECT $1::int n", [n])));
      assert.deepEqual(answers.map((a) => a.rows[0].n), [...Array(50).keys()]);
    },
    async errors_and_transactions(client) {
      await client.query("BEGIN");
      await assert.rejects(client.query("INSERT INTO t VALUES ($1, 'dup')", [1]), { code: "23505", table: "t" });
      await assert.rejects(client.query("SELECT 1"), { code: "25P02" });
      await client.query("ROLLBACK");
      await assert.rejects(client.query("SELECT 'ééé', nope"), { code: "42703", position: "15" });
    },
    async notifications(client) {
      const heard = new Promise((resolve) => client.once("notification", resolve));
      await client.query("LISTEN door");
      await client.query("SELECT pg_notify('door', 'knock')");
      assert.equal((await heard).payload, "knock");
    },
    async statement_timeout(client) {
      await client.query("SET statement_timeout = 50");
      await assert.rejects(client.query("SELECT pg_sleep(30)"), { code: "57014" });
      await client.query("RESET statement_timeout");
    },
    async a_pool() {
      const { Pool } = require("pg");
      const pool = new Pool({ ...where, max: 4 });
      const answers = await Promise.all([...Array(40).keys()].map((n) => pool.query("SELECT $1::int + 1 AS n", [n])));
      assert.equal(answers.reduce((sum, a) => sum + a.rows[0].n, 0), 820);
      await pool.end();
    },
    async many_rows(client) {
      const { rows } = await client.query("SELECT g, repeat('r', 200) r FROM generate_series(1, 20000) g");
      assert.equal(rows.length, 20000);
    },
  },
  "pg-cursor": {
    async read_in_pieces(client) {
      const Cursor = require("pg-cursor");
      const cursor = client.query(new Cursor("SELECT id FROM t WHERE id > $1 ORDER BY id", [40]));
      const ids = [];
      for (let rows = await cursor.read(7); rows.length; rows = await cursor.read(7)) ids.push(...rows.map((r) => r.id));
      assert.deepEqual(ids, [...Array(60).keys()].map((n) => n + 41));
      await cursor.close();
    },
    async closed_before_its_end(client) {
      const Cursor = require("pg-cursor");
      const cursor = client.query(new Cursor("SELECT g FROM generate_series(1, 100000) g"));
      assert.equal((await cursor.read(10)).length, 10);
      await cursor.close();
      assert.equal((await client.query("SELECT 1 AS one")).rows[0].one, 1);
    },
    async failing(client) {
      const Cursor = require("pg-cursor");
      const cursor = client.query(new Cursor("SELECT 10 / (5 - g) FROM generate_series(1, 9) g"));
      await assert.rejects(cursor.read(100), { code: "22012" });
      assert.equal((await client.query("SELECT 1 AS one")).rows[0].one, 1);
    },
  },
  "postgres.js": {
    async values(sql) {
      const [row] = await sql`SELECT ${7}::int4 a, ${"zwölf"}::text b, ${Buffer.from([0, 255])}::bytea c, ${null}::text d,
        ${sql.json({ a: [1] })}::jsonb e, ${[1, 2]}::int4[] f, ${new Date(0)}::timestamptz g`;
      assert.deepEqual({ ...row }, {
        a: 7, b: "zwölf", c: Buffer.from([0, 255]), d: null, e: { a: [1] }, f: [1, 2], g: new Date(0),
      });
    },
    async inserts_and_fragments(sql) {
      const people = [...Array(50).keys()].map((n) => ({ id: 1000 + n, s: `p${n}` }));
      assert.equal((await sql`INSERT INTO t ${sql(people)} RETURNING id`).length, 50);
      const [{ count }] = await sql`SELECT count(*)::int FROM ${sql("t")} WHERE id IN ${sql([1000, 1001])}`;
      assert.equal(count, 2);
    },
    async pipelined_queries(sql) {
      const answers = await Promise.all([...Array(100).keys()].map((n) => sql`SELECT ${n}::int AS n`));
      assert.deepEqual(answers.map((a) => a[0].n), [...Array(100).keys()]);
    },
    async a_transaction_with_savepoint(sql) {
      await assert.rejects(sql.begin(async (tx) => {
        await tx`INSERT INTO t VALUES (5000, 'x')`;
        await assert.rejects(tx.savepoint((s) => s`INSERT INTO t VALUES (1, 'dup')`), { code: "23505" });
        await tx`SELECT 1 / 0`;
      }), { code: "22012" });
      assert.equal((await sql`SELECT 1 FROM t WHERE id = 5000`).length, 0);
    },
    async cursors(sql) {
      let sum = 0;
      await sql`SELECT id FROM t WHERE id <= 100 ORDER BY id`.cursor(9, (rows) => { sum += rows.reduce((a, r) => a + r.id, 0); });
      assert.equal(sum, 5050);
    },
    async copy_in_and_out(sql) {
      const { pipeline } = require("node:stream/promises");
      const { Readable } = require("node:stream");
      const writable = await sql`COPY t FROM STDIN`.writable();
      await pipeline(Readable.from([...Array(500).keys()].map((n) => `${7000 + n}\tcopied\n`)), writable);
      const chunks = [];
      for await (const chunk of await sql`COPY (SELECT id FROM t WHERE s = 'copied' ORDER BY id) TO STDOUT`.readable()) {
        chunks.push(chunk);
      }
      assert.equal(Buffer.concat(chunks).toString().split("\n")[499], "7499");
    },
    async cancel(sql) {
      const query = sql`SELECT pg_sleep(60)`;
      setTimeout(() => query.cancel(), 200);
      await assert.rejects(query, { code: "57014" });
    },
    async notifications(sql) {
      const heard = new Promise((resolve) => { sql.listen("door", resolve).then(() => sql.notify("door", "knock")); });
      assert.equal(await heard, "knock");
    },
    async simple_text_and_describe(sql) {
      assert.equal((await sql.unsafe("SELECT 1 a; SELECT 2 b")).length, 2);
      const described = await sql`SELECT id, s FROM t WHERE id = ${1}`.describe();
      assert.deepEqual(described.columns.map((c) => c.name), ["id", "s"]);
    },
  },
};

async function open() {
  if (driver === "postgres.js") {
    const sql = require("postgres")({ ...where, max: 3, onnotice: () => {} });
    await sql.unsafe(`CREATE TABLE t (id int PRIMARY KEY, s text); ${rowsIn}`);
    return [sql, () => sql.end()];
  }
  const { Client } = require("pg");
  const client = new Client(where);
  await client.connect();
  await client.query(`CREATE TABLE t (id int PRIMARY KEY, s text); ${rowsIn}`);
  return [client, () => client.end()];
}

async function main() {
  const [connection, close] = await open();
  for (const [name, check] of Object.entries(checks[driver])) {
    await check(connection);
    console.log(name);
  }
  await close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
