"""The emulator's grammar: what Picodata's manual describes is taken, everything else is refused."""

from __future__ import annotations

import pytest

from kvmodel.testing.picodata import Refusal, parse

TAKEN = [
    "SELECT 1",
    "select version()",
    'SELECT "a", b AS "c", count(*), min(a), coalesce(a, 1) FROM t',
    "SELECT DISTINCT a FROM public.t WHERE a = $1 AND (b > $2 OR b IS NULL) ORDER BY a DESC NULLS LAST, b LIMIT 10",
    "SELECT a FROM t WHERE (a, b) = ($1, $2) AND (a, b) IN (($3, $4), ($5, $6))",
    "SELECT a FROM t WHERE a BETWEEN $1 AND $2 AND b NOT IN ($3, $4) AND c LIKE $5 AND NOT d IS NOT NULL",
    "SELECT a FROM t INNER JOIN u ON t.a = u.a LEFT JOIN v ON v.b = t.b GROUP BY a HAVING count(*) > 1",
    "SELECT a FROM t UNION ALL SELECT b FROM u",
    "SELECT a::text, CAST(b AS int) FROM t WHERE a = $1::text",
    "SELECT count(*) FROM t OPTION (sql_vdbe_opcode_max = 0, sql_motion_row_max = 0)",
    "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT DO REPLACE",
    "INSERT INTO t (a) SELECT b FROM u ON CONFLICT DO NOTHING",
    "INSERT INTO t (a) VALUES (?) ON CONFLICT DO FAIL;",
    "UPDATE t SET a = a + 1, b = $1 WHERE c = $2",
    "DELETE FROM t",
    (
        "CREATE TABLE IF NOT EXISTS t (a INTEGER NOT NULL, b VARCHAR(10) NULL, PRIMARY KEY (a DESC, b)) USING vinyl"
        " DISTRIBUTED BY (a) IN TIER hot WAIT APPLIED LOCALLY OPTION (TIMEOUT = 3.0)"
    ),
    "CREATE TABLE t (a UUID PRIMARY KEY, b DECIMAL(10, 2)) DISTRIBUTED GLOBALLY",
    "CREATE UNIQUE INDEX i ON t USING TREE (a, b)",
    "ALTER TABLE t ADD COLUMN a TEXT",
    "DROP TABLE IF EXISTS t",
    "TRUNCATE t",
    "DO $$ BEGIN RETURN QUERY SELECT a FROM t WHERE k = $1; UPDATE t SET a = $2 WHERE k = $1; END $$",
    (
        "DO $$ BEGIN DELETE FROM t WHERE k = $1; INSERT INTO t (k) VALUES ($1) ON CONFLICT DO NOTHING; END $$"
        " OPTION (sql_motion_row_max = 0)"
    ),
    "BEGIN",
    "COMMIT",
    "SET anything TO everything",
    "DEALLOCATE ALL",
]

REFUSED = [
    "",
    "SELECT 1; SELECT 2",
    "SELECT 1 -- why",
    "SELECT /* why */ 1",
    "SELECT E'\\n'",
    "SELECT X'00'",
    "SELECT 1\rFROM t",
    "SELECT a FROM t LIMIT $1",
    "SELECT a FROM t LIMIT 1 OFFSET 2",
    "SELECT a FROM t FOR UPDATE",
    "SELECT a FROM t WHERE (a, b) > ($1, $2)",
    "SELECT a FROM t WHERE (a, b) <> ($1, $2)",
    "SELECT a FROM t WHERE a = ANY($1)",
    "SELECT now()",
    "SELECT length(a) FROM t",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM pg_class",
    "SELECT a FROM t, u",
    "SELECT a FROM t INTERSECT SELECT a FROM u",
    "SELECT a FROM t WHERE a = $2",
    "SELECT a FROM t WHERE a = $1 AND b = ?",
    "SELECT a::bytea FROM t",
    "INSERT INTO t VALUES ($1)",
    "INSERT INTO t (a) VALUES ($1) RETURNING a",
    "INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET a = EXCLUDED.a",
    "INSERT INTO t (a, b) VALUES ($1)",
    "UPDATE t AS x SET a = $1",
    "UPDATE t SET a = $1 RETURNING a",
    "DELETE FROM t USING u",
    "DELETE FROM t WHERE a = $1 LIMIT 1",
    "DELETE FROM t ORDER BY a",
    "CREATE TABLE t (a BYTEA, PRIMARY KEY (a))",
    "CREATE TABLE t (a SERIAL PRIMARY KEY)",
    "CREATE TABLE t (a INT DEFAULT 5, PRIMARY KEY (a))",
    "CREATE TABLE t (a INT CHECK (a > 0), PRIMARY KEY (a))",
    "CREATE TABLE t (a INT UNIQUE, PRIMARY KEY (a))",
    'CREATE TABLE t (a TEXT COLLATE "C", PRIMARY KEY (a))',
    "CREATE TABLE t (a INT REFERENCES u, PRIMARY KEY (a))",
    "CREATE TABLE t (a INT)",
    "CREATE TABLE t (a INT, PRIMARY KEY (b))",
    "CREATE TABLE t (a INT, PRIMARY KEY (a)) DISTRIBUTED BY (a) USING memtx",
    "CREATE TABLE t (a INT, PRIMARY KEY (a)) OPTION (TIMEOUT = 3) WAIT APPLIED GLOBALLY",
    "CREATE TEMPORARY TABLE t (a INT PRIMARY KEY)",
    "CREATE INDEX i ON t USING btree (a)",
    "CREATE INDEX CONCURRENTLY i ON t (a)",
    "CREATE INDEX i ON t (lower(a))",
    "ALTER TABLE t DROP COLUMN a",
    "DROP TABLE t CASCADE",
    "DROP TABLE t, u",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "START TRANSACTION",
    "SAVEPOINT s",
    "COMMIT WORK",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "COPY t FROM STDIN",
    "LISTEN x",
    "SHOW server_version",
    "RESET ALL",
    "DISCARD ALL",
    "EXPLAIN SELECT 1",
    "DO $$ BEGIN UPDATE t SET a = 1 WHERE k = $1; RETURN QUERY SELECT a FROM t WHERE k = $1; END $$",
    "DO $$ BEGIN SELECT a FROM t WHERE k = $1; END $$",
    "DO $$ BEGIN UPDATE t SET a = 1 WHERE k = $1 END $$",
    "DO $$ BEGIN INSERT INTO t (a) SELECT b FROM u; END $$",
    "DO $$ BEGIN END $$",
]


@pytest.mark.parametrize("text", TAKEN)
def test_taken(text: str) -> None:
    """What the protocol's description shows."""
    parse(text)


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    """What only PostgreSQL knows, or gives wrong rows, or is not described."""
    with pytest.raises(Refusal):
        parse(text)


def test_rewriting() -> None:
    """Texts compare by bytes, numbers are 64 bits wide, NULL is the smallest value, and Picodata's clauses are gone."""
    created = parse(
        'CREATE TABLE T (a INT, "B" STRING, PRIMARY KEY (a)) USING memtx DISTRIBUTED BY (a) OPTION (TIMEOUT = 1)'
    )
    assert created.sql == 'CREATE TABLE "t" ("a" bigint, "B" text COLLATE "C", PRIMARY KEY ("a"))'
    assert parse("SELECT 1 FROM t ORDER BY a, b DESC").sql.endswith('ORDER BY "a" NULLS FIRST, "b" DESC NULLS LAST')
    assert "::bigint" in parse("SELECT 1").sql
