// pgjdbc over a protected table: `java -cp postgresql.jar JdbcCells.java PORT DATABASE`.
// `cells` is protected, `twins` is not; whatever is asked of both must be answered alike, metadata included.
// Prints the name of each check that held, one a line; ends with status 1 at the first that did not.

import java.math.BigDecimal;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.util.PGobject;

class JdbcCells {
    static final String[] TABLES = {"cells", "twins"};
    static final String COLUMNS = "a_text, a_varchar, a_stored, a_small, a_int, a_big, a_number, a_float, a_bool, a_date, "
        + "a_time, a_moment, a_uuid, a_json, a_jsonb, a_bytea";
    static final String INSERT = "INSERT INTO %s (id, " + COLUMNS + ") VALUES (" + "?, ".repeat(16) + "?)";
    static final UUID NUMBER = UUID.fromString("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    static final String TEXT = "zwölf 🐘 'x' \\";
    static String url;

    interface Check {
        void run(Connection connection) throws Exception;
    }

    static void check(String name, String options, Check check) throws Exception {
        sendsBytes = !options.contains("preferQueryMode=simple");
        try (Connection connection = DriverManager.getConnection(url + options)) {
            execute(connection, "DELETE FROM cells");
            execute(connection, "DELETE FROM twins");
            check.run(connection);
        }
        System.out.println(name);
    }

    static void hold(boolean condition) {
        if (!condition) throw new AssertionError("the check did not hold");
    }

    static void execute(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    static void refused(String state, Check check, Connection connection) throws Exception {
        try {
            check.run(connection);
        } catch (SQLException error) {
            if (!state.equals(error.getSQLState())) throw error;
            return;
        }
        throw new AssertionError("accepted what must be " + state);
    }

    static PGobject json(String type, String text) throws SQLException {
        PGobject made = new PGobject();
        made.setType(type);
        made.setValue(text);
        return made;
    }

    static boolean sendsBytes; // pgjdbc cannot write bytes into a text of the simple protocol

    static void set(PreparedStatement statement, int id) throws SQLException {
        statement.setInt(1, id);
        if (id % 3 == 2) {
            int[] types = {Types.VARCHAR, Types.VARCHAR, Types.VARCHAR, Types.SMALLINT, Types.INTEGER, Types.BIGINT,
                Types.NUMERIC, Types.DOUBLE, Types.BOOLEAN, Types.DATE, Types.TIMESTAMP, Types.TIMESTAMP_WITH_TIMEZONE,
                Types.OTHER, Types.OTHER, Types.OTHER, Types.BINARY};
            for (int n = 0; n < 16; n++) statement.setNull(n + 2, types[n]);
            return;
        }
        boolean first = id % 3 == 0;
        statement.setString(2, first ? TEXT : "");
        statement.setString(3, first ? "x".repeat(20) : "");
        statement.setString(4, "stored " + id);
        statement.setShort(5, (short) -id);
        statement.setInt(6, first ? Integer.MAX_VALUE : id);
        statement.setLong(7, first ? Long.MIN_VALUE : id);
        statement.setBigDecimal(8, new BigDecimal(first ? "-12.50" : "0.01"));
        statement.setDouble(9, first ? 0.1 : Double.NEGATIVE_INFINITY);
        statement.setBoolean(10, first);
        statement.setObject(11, first ? LocalDate.of(1999, 12, 31) : LocalDate.of(1, 1, 1));
        statement.setObject(12, LocalDateTime.of(2024, 2, 29, 12, 30, 0, 123456000));
        statement.setObject(13, OffsetDateTime.of(2024, 2, 29, 12, 30, 0, 0, ZoneOffset.ofHours(9)));
        statement.setObject(14, first ? NUMBER : new UUID(0, 0));
        statement.setObject(15, json("json", "{\"b\":  1}"));
        statement.setObject(16, json("jsonb", "{\"b\": 1}"));
        if (sendsBytes) statement.setBytes(17, first ? new byte[] {0, -1, 92} : new byte[0]);
        else statement.setNull(17, Types.BINARY);
    }

    static List<List<Object>> read(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < values.length; n++) statement.setObject(n + 1, values[n]);
            try (ResultSet rows = statement.executeQuery()) {
                return all(rows);
            }
        }
    }

    static List<List<Object>> all(ResultSet rows) throws SQLException {
        ResultSetMetaData described = rows.getMetaData();
        List<List<Object>> found = new ArrayList<>();
        List<Object> names = new ArrayList<>();
        for (int n = 1; n <= described.getColumnCount(); n++) {
            names.add(described.getColumnName(n) + " " + described.getColumnTypeName(n) + " " + described.getPrecision(n)
                + " " + described.getScale(n) + " " + described.getColumnClassName(n));
        }
        found.add(names);
        while (rows.next()) {
            List<Object> row = new ArrayList<>();
            for (int n = 1; n <= described.getColumnCount(); n++) {
                Object value = rows.getObject(n);
                row.add(value instanceof byte[] ? Arrays.toString((byte[]) value) : value);
            }
            found.add(row);
        }
        return found;
    }

    static List<List<Object>> both(Connection connection, String sql, Object... values) throws SQLException {
        List<List<Object>> cells = read(connection, String.format(sql, TABLES[0]), values);
        List<List<Object>> twins = read(connection, String.format(sql, TABLES[1]), values);
        if (!cells.equals(twins)) throw new AssertionError(sql + ": " + cells + " is not " + twins);
        return cells;
    }

    static void fill(Connection connection, int count) throws SQLException {
        for (String table : TABLES) {
            try (PreparedStatement statement = connection.prepareStatement(String.format(INSERT, table))) {
                for (int id = 0; id < count; id++) {
                    set(statement, id);
                    hold(statement.executeUpdate() == 1);
                }
            }
        }
    }

    static void values(Connection connection) throws SQLException {
        fill(connection, 12);
        for (int n = 0; n < 8; n++) {
            List<List<Object>> rows = both(connection, "SELECT id, " + COLUMNS + " FROM %s ORDER BY id");
            hold(rows.size() == 13 && rows.get(1).get(1).equals(TEXT) && rows.get(1).get(13).equals(NUMBER));
            hold(both(connection, "SELECT id FROM %s WHERE a_text = ?", TEXT).size() == 5);
            hold(both(connection, "SELECT a_number FROM %s WHERE a_int = ? AND a_number = ?", n, new BigDecimal("0.01")).size()
                == (n % 3 == 1 ? 2 : 1));
            hold(both(connection, "SELECT a_big FROM %s WHERE a_uuid = ?", NUMBER).size() == 5);
            both(connection, "SELECT * FROM %s WHERE a_date = ? ORDER BY id", LocalDate.of(1, 1, 1));
        }
    }

    static void arrays(Connection connection) throws SQLException {
        fill(connection, 6);
        Object texts = connection.createArrayOf("text", new Object[] {TEXT, "none"});
        hold(both(connection, "SELECT id FROM %s WHERE a_text = ANY(?) ORDER BY id", texts).size() == 3);
        Object numbers = connection.createArrayOf("int4", new Object[] {1, 4});
        hold(both(connection, "SELECT id FROM %s WHERE a_int = ANY(?) ORDER BY id", numbers).size() == 3);
    }

    static void batch(Connection connection) throws SQLException {
        for (String table : TABLES) {
            try (PreparedStatement statement = connection.prepareStatement(String.format(INSERT, table))) {
                for (int id = 0; id < 150; id++) {
                    set(statement, id);
                    statement.addBatch();
                }
                hold(statement.executeBatch().length == 150);
            }
            String update = String.format("UPDATE %s SET a_text = ?, a_int = ? WHERE id = ?", table);
            try (PreparedStatement statement = connection.prepareStatement(update)) {
                for (int id = 0; id < 150; id++) {
                    statement.setString(1, "u" + id);
                    statement.setInt(2, id * 2);
                    statement.setInt(3, id);
                    statement.addBatch();
                }
                hold(Arrays.stream(statement.executeBatch()).sum() == 150);
            }
        }
        hold(both(connection, "SELECT * FROM %s ORDER BY id").size() == 151);
        hold(both(connection, "SELECT id FROM %s WHERE a_text = ?", "u149").size() == 2);
    }

    static void failingBatch(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        String insert = "INSERT INTO cells (id, a_varchar) VALUES (?, ?)";
        try (PreparedStatement statement = connection.prepareStatement(insert)) {
            for (int id = 0; id < 20; id++) {
                statement.setInt(1, id);
                statement.setString(2, id == 11 ? "x".repeat(21) : "fits");
                statement.addBatch();
            }
            statement.executeBatch();
            throw new AssertionError("a value that is too long was accepted");
        } catch (BatchUpdateException error) {
            hold("22001".equals(error.getSQLState()));
        }
        connection.rollback();
        hold(read(connection, "SELECT id FROM cells").size() == 1);
    }

    static void generatedKeys(Connection connection) throws SQLException {
        String insert = "INSERT INTO cells (id, a_text) VALUES (?, ?)";
        try (PreparedStatement statement = connection.prepareStatement(insert, new String[] {"id", "a_text"})) {
            for (int id = 0; id < 20; id++) {
                statement.setInt(1, id);
                statement.setString(2, "k" + id);
                statement.addBatch();
            }
            statement.executeBatch();
            try (ResultSet keys = statement.getGeneratedKeys()) {
                int count = 0;
                while (keys.next()) hold(keys.getString("a_text").equals("k" + count) && keys.getInt("id") == count++);
                hold(count == 20);
            }
        }
    }

    static void autosave(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        fill(connection, 3);
        for (int n = 0; n < 8; n++) {
            refused("PS001", c -> read(c, "SELECT upper(a_text) FROM cells"), connection);
            refused("23505", c -> execute(c, "INSERT INTO cells (id, a_text) VALUES (1, 'twice')"), connection);
            hold(both(connection, "SELECT a_text FROM %s WHERE a_text = ?", TEXT).size() == 2);
        }
        connection.commit();
        hold(both(connection, "SELECT * FROM %s ORDER BY id").size() == 4);
    }

    static void fetchSize(Connection connection) throws SQLException {
        fill(connection, 60);
        connection.setAutoCommit(false);
        for (int round = 0; round < 7; round++) {
            String sql = "SELECT id, a_stored FROM cells WHERE id > ? ORDER BY 1";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                statement.setFetchSize(7);
                statement.setInt(1, 20);
                int expected = 21;
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) {
                        String stored = rows.getString(2);
                        hold(rows.getInt(1) == expected);
                        hold(expected % 3 == 2 ? stored == null : stored.equals("stored " + expected));
                        expected++;
                    }
                }
                hold(expected == 60);
            }
        }
        connection.commit();
    }

    static void savepoints(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        fill(connection, 3);
        Savepoint savepoint = connection.setSavepoint();
        execute(connection, "UPDATE cells SET a_text = 'lost'");
        refused("PS001", c -> execute(c, "UPDATE cells SET a_text = upper(a_text)"), connection);
        connection.rollback(savepoint);
        hold(both(connection, "SELECT a_text FROM %s ORDER BY id").get(1).get(0).equals(TEXT));
        connection.rollback();
        hold(both(connection, "SELECT id FROM %s").size() == 1);
    }

    static void statements(Connection connection) throws SQLException {
        fill(connection, 3);
        try (Statement statement = connection.createStatement()) {
            hold(statement.execute("SELECT a_text FROM cells WHERE id = 0; UPDATE cells SET a_int = 7 WHERE id = 0; "
                + "SELECT a_int FROM cells WHERE a_int = 7"));
            try (ResultSet rows = statement.getResultSet()) {
                hold(rows.next() && rows.getString(1).equals(TEXT));
            }
            hold(!statement.getMoreResults() && statement.getUpdateCount() == 1);
            hold(statement.getMoreResults());
            try (ResultSet rows = statement.getResultSet()) {
                hold(rows.next() && rows.getInt(1) == 7);
            }
        }
    }

    static void updatableRows(Connection connection) throws SQLException {
        fill(connection, 3);
        try (Statement statement =
                connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
            ResultSet rows = statement.executeQuery("SELECT id, a_text, a_date FROM cells WHERE id = 1");
            rows.next();
            rows.updateString("a_text", "changed");
            rows.updateDate("a_date", java.sql.Date.valueOf("2001-02-03"));
            rows.updateRow();
            hold(rows.getString("a_text").equals("changed"));
        }
        hold(read(connection, "SELECT id FROM cells WHERE a_text = ? AND a_date = ?", "changed", LocalDate.of(2001, 2, 3))
            .size() == 2);
    }

    static void parameterMetadata(Connection connection) throws SQLException {
        List<String> seen = new ArrayList<>();
        for (String table : TABLES) {
            try (PreparedStatement statement = connection.prepareStatement(String.format(INSERT, table))) {
                for (int n = 1; n <= 17; n++) seen.add(statement.getParameterMetaData().getParameterTypeName(n));
            }
        }
        hold(seen.subList(0, 17).equals(seen.subList(17, 34)));
    }

    public static void main(String[] arguments) throws Exception {
        url = String.format("jdbc:postgresql://127.0.0.1:%s/%s?user=app&sslmode=disable", (Object[]) arguments);
        check("values", "", JdbcCells::values);
        check("values-binary-at-once", "&prepareThreshold=-1", JdbcCells::values);
        check("values-never-prepared", "&prepareThreshold=0", JdbcCells::values);
        check("values-binary-after-one", "&prepareThreshold=1", JdbcCells::values);
        check("values-text-only", "&binaryTransfer=false", JdbcCells::values);
        check("values-all-binary", "&prepareThreshold=1&binaryTransferEnable=25,1043,1700,1082,1114,1184,16,21", JdbcCells::values);
        check("values-simple", "&preferQueryMode=simple", JdbcCells::values);
        check("values-extended-cache", "&preferQueryMode=extendedCacheEverything", JdbcCells::values);
        check("values-unspecified-strings", "&stringtype=unspecified", JdbcCells::values);
        check("arrays", "", JdbcCells::arrays);
        check("arrays-binary", "&prepareThreshold=1", JdbcCells::arrays);
        check("batch", "", JdbcCells::batch);
        check("batch-rewritten", "&reWriteBatchedInserts=true", JdbcCells::batch);
        check("batch-rewritten-binary", "&reWriteBatchedInserts=true&prepareThreshold=1", JdbcCells::batch);
        check("failing-batch", "", JdbcCells::failingBatch);
        check("generated-keys", "", JdbcCells::generatedKeys);
        check("autosave", "&autosave=always", JdbcCells::autosave);
        check("autosave-conservative", "&autosave=conservative", JdbcCells::savepoints);
        check("fetch-size", "", JdbcCells::fetchSize);
        check("savepoints", "", JdbcCells::savepoints);
        check("statements", "", JdbcCells::statements);
        check("updatable-rows", "", JdbcCells::updatableRows);
        check("parameter-metadata", "", JdbcCells::parameterMetadata);
    }
}
