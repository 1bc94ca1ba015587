// SPDX-License-Identifier: Apache-2.0
// A JDBC client for the differential test: unnamed and named (after five uses) statements, batches, a portal fetched in
// pieces, COPY both ways, simple-query mode, errors at parse, bind and execution. Prints "backend pid TAB rows TAB text" for
// what was fetched in pieces. Usage: JdbcClient URL ROUNDS
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import org.postgresql.PGConnection;

public class JdbcClient {
	static final String PIECES = "SELECT generate_series(1, 35)";

	static int count(PreparedStatement statement) throws SQLException {
		int rows = 0;
		try (ResultSet result = statement.executeQuery()) {
			while (result.next())
				rows++;
		}
		return rows;
	}

	interface Attempt {
		void run() throws SQLException;
	}

	static void refused(String sqlstate, Attempt attempt) throws SQLException {
		try {
			attempt.run();
		} catch (SQLException e) {
			if (e.getSQLState().equals(sqlstate))
				return;
			throw e;
		}
		throw new SQLException("was expected to fail with " + sqlstate);
	}

	static void round(Connection conn, int i) throws SQLException {
		try (PreparedStatement insert = conn.prepareStatement("INSERT INTO jdbc_t VALUES (?, ?)")) {
			for (int n = 0; n < 8; n++) {
				insert.setInt(1, i * 8 + n);
				insert.setString(2, "ünicode " + n);
				insert.addBatch();
			}
			insert.executeBatch();
		}
		try (PreparedStatement select = conn.prepareStatement("SELECT v FROM jdbc_t WHERE id <= ?")) {
			for (int n = 0; n < 8; n++) { // the sixth and later ones by name
				select.setInt(1, n);
				count(select);
			}
		}
		refused("22P02", () -> {
			try (PreparedStatement bad = conn.prepareStatement("SELECT ?::text::int AS bind_or_run")) {
				bad.setString(1, "abc");
				count(bad);
			}
		});
		refused("42601", () -> conn.createStatement().execute("SELEKT 1"));
		refused("23505", () -> conn.createStatement().execute("INSERT INTO jdbc_t VALUES (0, NULL)"));
		conn.createStatement().execute("SELECT 1; SELECT 2");
	}

	static void transaction(Connection conn, long pid) throws SQLException {
		conn.setAutoCommit(false);
		try (PreparedStatement pieces = conn.prepareStatement(PIECES)) {
			pieces.setFetchSize(10);
			System.out.println(pid + "\t" + count(pieces) + "\t" + PIECES);
		}
		refused("22012", () -> conn.createStatement().execute("SELECT 1 / 0"));
		refused("25P02", () -> conn.createStatement().execute("SELECT 'in aborted'"));
		conn.rollback();
		conn.createStatement().execute("DELETE FROM jdbc_t");
		conn.commit();
		conn.setAutoCommit(true);
	}

	static void copy(Connection conn) throws Exception {
		PGConnection pg = conn.unwrap(PGConnection.class);
		StringBuilder lines = new StringBuilder();
		for (int i = 0; i < 5000; i++)
			lines.append(100000 + i).append("\tcopied\n");
		pg.getCopyAPI().copyIn("COPY jdbc_t FROM STDIN", new StringReader(lines.toString()));
		StringWriter out = new StringWriter();
		pg.getCopyAPI().copyOut("COPY jdbc_t TO STDOUT", out);
		if (out.toString().split("\n").length != 5000)
			throw new SQLException("COPY lost lines");
		refused("22P02", () -> {
			try {
				pg.getCopyAPI().copyIn("COPY jdbc_t FROM STDIN", new StringReader("no number\tx\n"));
			} catch (java.io.IOException e) {
				throw new SQLException(e);
			}
		});
	}

	static void session(String url, int rounds) throws Exception {
		try (Connection conn = DriverManager.getConnection(url)) {
			long pid = conn.unwrap(PGConnection.class).getBackendPID();
			try (Statement statement = conn.createStatement()) {
				statement.execute("CREATE TEMP TABLE jdbc_t (id int PRIMARY KEY, v text)");
			}
			for (int i = 0; i < rounds; i++)
				round(conn, i);
			transaction(conn, pid);
			copy(conn);
		}
	}

	public static void main(String[] args) throws Exception {
		session(args[0], Integer.parseInt(args[1]));
		try (Connection conn = DriverManager.getConnection(args[0] + "&preferQueryMode=simple")) {
			for (int i = 0; i < 10; i++)
				try (PreparedStatement select = conn.prepareStatement("SELECT ? + 1 AS simple_mode")) {
					select.setInt(1, i);
					count(select);
				}
		}
	}
}
