// pgjdbc over plain tables: `java -cp postgresql.jar JdbcPlain.java HOST PORT DATABASE`.
// Prints the name of each check that held, one a line; ends with status 1 at the first that did not.

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.Arrays;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

class JdbcPlain {
    static String url;

    interface Check {
        void run(Connection connection) throws Exception;
    }

    static void check(String name, String options, Check check) throws Exception {
        try (Connection connection = DriverManager.getConnection(url + options)) {
            check.run(connection);
        }
        System.out.println(name);
    }

    static void hold(boolean condition) {
        if (!condition) throw new AssertionError("the check did not hold");
    }

    static int number(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getInt(1);
        }
    }

    static void refused(String state, Check check, Connection connection) throws Exception {
        try {
            check.run(connection);
        } catch (SQLException error) {
            hold(state.equals(error.getSQLState()));
            return;
        }
        throw new AssertionError("accepted what must be " + state);
    }

    static void values(Connection connection) throws SQLException {
        String sql = "SELECT CAST(? AS int4), CAST(? AS int8), CAST(? AS numeric), CAST(? AS text), CAST(? AS bytea), "
            + "CAST(? AS date), CAST(? AS bool), CAST(? AS float8)";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < 12; n++) {
                statement.setInt(1, n);
                statement.setLong(2, 1L << 40);
                statement.setBigDecimal(3, new java.math.BigDecimal("12.50"));
                statement.setString(4, "zwölf 🐘");
                statement.setBytes(5, new byte[] {0, -1});
                statement.setDate(6, Date.valueOf("1999-12-31"));
                statement.setBoolean(7, true);
                statement.setNull(8, java.sql.Types.DOUBLE);
                try (ResultSet rows = statement.executeQuery()) {
                    hold(rows.next() && rows.getInt(1) == n && rows.getLong(2) == 1L << 40);
                    hold(rows.getString(3).equals("12.50") && rows.getString(4).equals("zwölf 🐘"));
                    hold(Arrays.equals(rows.getBytes(5), new byte[] {0, -1}));
                    hold(rows.getDate(6).toString().equals("1999-12-31") && rows.getBoolean(7));
                    hold(rows.getObject(8) == null && !rows.next());
                }
            }
        }
    }

    static void inlinedValues(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("SELECT ? + 1, ? || 'x'; SELECT 2")) {
            statement.setInt(1, 41);
            statement.setString(2, "o'clock \\ 🐘");
            hold(statement.execute());
            try (ResultSet rows = statement.getResultSet()) {
                hold(rows.next() && rows.getInt(1) == 42 && rows.getString(2).equals("o'clock \\ 🐘x"));
            }
            hold(statement.getMoreResults());
        }
    }

    static void batch(Connection connection) throws SQLException {
        String sql = "INSERT INTO t (id, s) VALUES (?, ?)";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < 1500; n++) {
                statement.setInt(1, 10000 + n);
                statement.setString(2, "b" + n);
                statement.addBatch();
            }
            hold(statement.executeBatch().length == 1500);
        }
        hold(number(connection, "SELECT count(*) FROM t WHERE id >= 10000") == 1500);
        try (Statement statement = connection.createStatement()) {
            statement.execute("DELETE FROM t WHERE id >= 10000");
        }
    }

    static void failingBatch(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO t VALUES (?, 'x')")) {
            for (int id : new int[] {20000, 1, 20001}) {
                statement.setInt(1, id);
                statement.addBatch();
            }
            statement.executeBatch();
            throw new AssertionError("a duplicate was accepted");
        } catch (BatchUpdateException error) {
            hold("23505".equals(error.getSQLState()));
        }
        hold(number(connection, "SELECT count(*) FROM t WHERE id >= 20000") == 0);
    }

    static void generatedKeys(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("CREATE TEMP TABLE g (id serial, s text)");
        }
        try (PreparedStatement statement =
                connection.prepareStatement("INSERT INTO g (s) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int n = 0; n < 20; n++) {
                statement.setString(1, "k");
                statement.addBatch();
            }
            statement.executeBatch();
            try (ResultSet keys = statement.getGeneratedKeys()) {
                int count = 0;
                while (keys.next()) hold(keys.getInt("id") == ++count);
                hold(count == 20);
            }
        }
    }

    static void autosave(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        for (int n = 0; n < 8; n++) {
            refused("22012", c -> number(c, "SELECT 1 / 0"), connection);
            hold(number(connection, "SELECT count(*) FROM t") == 100);
        }
        connection.commit();
    }

    static void fetchSize(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        for (int round = 0; round < 7; round++) {
            try (PreparedStatement statement = connection.prepareStatement("SELECT id FROM t WHERE id > ? ORDER BY 1")) {
                statement.setFetchSize(7);
                statement.setInt(1, 40);
                int expected = 41;
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) hold(rows.getInt(1) == expected++);
                }
                hold(expected == 101);
            }
        }
        connection.commit();
    }

    static void savepoints(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        Savepoint savepoint = connection.setSavepoint();
        refused("23505", c -> {
            try (Statement statement = c.createStatement()) {
                statement.execute("INSERT INTO t VALUES (1, 'dup')");
            }
        }, connection);
        connection.rollback(savepoint);
        hold(number(connection, "SELECT count(*) FROM t") == 100);
        connection.rollback();
    }

    static void cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    statement.cancel();
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
            canceller.start();
            refused("57014", c -> statement.execute("SELECT pg_sleep(60)"), connection);
            canceller.join();
        }
        hold(number(connection, "SELECT 1") == 1);
    }

    static void queryTimeout(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            refused("57014", c -> statement.execute("SELECT pg_sleep(60)"), connection);
        }
    }

    static void copy(Connection connection) throws Exception {
        CopyManager copies = connection.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder text = new StringBuilder();
        for (int n = 0; n < 5000; n++) text.append(30000 + n).append("\tcopied\n");
        hold(copies.copyIn("COPY t FROM STDIN", new StringReader(text.toString())) == 5000);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        hold(copies.copyOut("COPY (SELECT * FROM t WHERE id >= 30000 ORDER BY id) TO STDOUT", out) == 5000);
        hold(out.toString().equals(text.toString()));
        refused("22P02", c -> copies.copyIn("COPY t FROM STDIN", new StringReader("no number\tx\n")), connection);
        hold(number(connection, "DELETE FROM t WHERE id >= 30000 RETURNING 1") == 1);
    }

    static void largeObjects(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        LargeObjectManager objects = connection.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = objects.createLO(LargeObjectManager.READWRITE);
        byte[] bytes = new byte[300000];
        Arrays.fill(bytes, (byte) 7);
        LargeObject object = objects.open(oid, LargeObjectManager.READWRITE);
        object.write(bytes);
        object.seek(0);
        hold(Arrays.equals(object.read(bytes.length), bytes));
        object.close();
        objects.delete(oid);
        connection.commit();
    }

    static void updatableRows(Connection connection) throws SQLException {
        try (Statement statement =
                connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
            ResultSet rows = statement.executeQuery("SELECT id, s FROM t WHERE id = 5");
            rows.next();
            rows.updateString("s", "changed");
            rows.updateRow();
        }
        hold(number(connection, "SELECT count(*) FROM t WHERE s = 'changed'") == 1);
        try (Statement statement = connection.createStatement()) {
            statement.execute("UPDATE t SET s = 's5' WHERE id = 5");
        }
    }

    static void metadata(Connection connection) throws SQLException {
        try (ResultSet columns = connection.getMetaData().getColumns(null, "public", "t", null)) {
            hold(columns.next() && columns.getString("COLUMN_NAME").equals("id"));
            hold(columns.next() && columns.getString("TYPE_NAME").equals("text"));
        }
    }

    static void notifications(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("LISTEN door");
            statement.execute("NOTIFY door, 'knock'");
        }
        hold(connection.unwrap(PGConnection.class).getNotifications(10000)[0].getParameter().equals("knock"));
    }

    static void manyParameters(Connection connection) throws SQLException {
        int count = 32767;
        String marks = "?,".repeat(count - 1) + "?";
        try (PreparedStatement statement =
                connection.prepareStatement("SELECT count(*) FROM t WHERE id IN (" + marks + ")")) {
            for (int n = 1; n <= count; n++) statement.setInt(n, n);
            try (ResultSet rows = statement.executeQuery()) {
                hold(rows.next() && rows.getInt(1) == 100);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        url = String.format("jdbc:postgresql://%s:%s/%s?user=postgres&sslmode=disable", (Object[]) arguments);
        check("setup", "", c -> {
            try (Statement statement = c.createStatement()) {
                statement.execute("CREATE TABLE t (id int PRIMARY KEY, s text)");
                statement.execute("INSERT INTO t SELECT g, 's' || g FROM generate_series(1, 100) g");
            }
        });
        check("values", "", JdbcPlain::values);
        check("values-binary-at-once", "&prepareThreshold=-1", JdbcPlain::values);
        check("values-never-prepared", "&prepareThreshold=0", JdbcPlain::values);
        check("values-simple", "&preferQueryMode=simple", JdbcPlain::inlinedValues);
        check("values-extended-cache", "&preferQueryMode=extendedCacheEverything", JdbcPlain::values);
        check("batch", "", JdbcPlain::batch);
        check("batch-rewritten", "&reWriteBatchedInserts=true", JdbcPlain::batch);
        check("failing-batch", "", JdbcPlain::failingBatch);
        check("generated-keys", "", JdbcPlain::generatedKeys);
        check("autosave", "&autosave=always", JdbcPlain::autosave);
        check("fetch-size", "", JdbcPlain::fetchSize);
        check("savepoints", "", JdbcPlain::savepoints);
        check("cancel", "", JdbcPlain::cancel);
        check("query-timeout", "", JdbcPlain::queryTimeout);
        check("copy", "", JdbcPlain::copy);
        check("large-objects", "", JdbcPlain::largeObjects);
        check("updatable-rows", "", JdbcPlain::updatableRows);
        check("metadata", "", JdbcPlain::metadata);
        check("notifications", "", JdbcPlain::notifications);
        check("many-parameters", "", JdbcPlain::manyParameters);
    }
}
