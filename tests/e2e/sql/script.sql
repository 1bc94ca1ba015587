-- SPDX-License-Identifier: Apache-2.0
-- The psql part of the differential test: simple statements of every kind, several in one message, errors
-- of each phase, transactions, savepoints, COPY both ways, DO, cursors, prepared statements. Errors are meant.
SELECT 1;
select 'héllo wörld', '日本語', E'tab\there', $tag$dollar ; quoted$tag$;
/* a comment in front */ SELECT 2 /* nested /* comment */ inside */ + 3; -- and one behind
CREATE TEMP TABLE s (id int PRIMARY KEY, v text, n numeric DEFAULT 0);
INSERT INTO s SELECT g, 'v' || g FROM generate_series(1, 50) g;
INSERT INTO s VALUES (51, 'x'), (52, 'y') RETURNING id;
UPDATE s SET n = n + 1 WHERE id <= 10;
UPDATE s SET n = n + 1 WHERE id = -1;
DELETE FROM s WHERE id > 50;
WITH d AS (DELETE FROM s WHERE id = 50 RETURNING *) SELECT count(*) FROM d;
MERGE INTO s USING (VALUES (1, 'm'), (60, 'm')) AS t(id, v) ON s.id = t.id
  WHEN MATCHED THEN UPDATE SET v = t.v WHEN NOT MATCHED THEN INSERT VALUES (t.id, t.v);
SELECT 1\; SELECT 2\; SELECT 3;
BEGIN\; INSERT INTO s VALUES (70, 'multi')\; COMMIT;
SELECT 1\; SELECT 1/0\; SELECT 3;
SELEC 1;
SELECT * FROM does_not_exist;
SELECT 1 / 0;
SELECT 1 / 0;
SELECT no_such_function(1);
INSERT INTO s VALUES (1, 'duplicate');
SELECT 'unterminated;
';
BEGIN;
INSERT INTO s VALUES (100, 'in transaction');
SAVEPOINT one;
INSERT INTO s VALUES (100, 'duplicate again');
SELECT 'refused: the transaction is aborted';
ROLLBACK TO SAVEPOINT one;
RELEASE SAVEPOINT one;
COMMIT;
START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
INSERT INTO s VALUES (101, 'read only');
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM s ORDER BY id;
FETCH 10 FROM c;
FETCH ALL FROM c;
MOVE BACKWARD 5 FROM c;
FETCH NEXT FROM c;
CLOSE c;
COMMIT;
COPY s (id, v) FROM STDIN;
200	copied
201	copied too
202	\N
\.
COPY s (id, v) FROM STDIN;
1	duplicate key
\.
COPY (SELECT id, v FROM s ORDER BY id LIMIT 5) TO STDOUT;
DO $$ BEGIN FOR i IN 1..3 LOOP PERFORM i FROM s WHERE id = i; END LOOP; END $$;
DO $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = 'DB001'; END $$;
DO $$ BEGIN EXECUTE 'SELECT 1/0'; EXCEPTION WHEN division_by_zero THEN NULL; END $$;
CREATE FUNCTION pg_temp.f(int) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM s WHERE id < $1';
SELECT pg_temp.f(10), pg_temp.f(20);
PREPARE p (int) AS SELECT v FROM s WHERE id = $1;
EXECUTE p (1);
EXECUTE p (2);
EXECUTE nobody (2);
DEALLOCATE p;
EXPLAIN (COSTS OFF) SELECT * FROM s;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) UPDATE s SET n = 0 WHERE id = 3;
SET statement_timeout = '50ms';
SELECT pg_sleep(5);
RESET statement_timeout;
SET ROLE nobody_at_all;
SHOW server_version_num;
LISTEN channel_e2e;
NOTIFY channel_e2e, 'payload';
UNLISTEN *;
LOCK TABLE s;
CREATE TABLE IF NOT EXISTS s (id int);
SELECT id INTO TEMP s2 FROM s;
CREATE TEMP TABLE s3 AS SELECT * FROM s LIMIT 4;
TRUNCATE s3;
ALTER TABLE s3 ADD COLUMN extra int;
CREATE INDEX ON s3 (id);
ANALYZE s3;
VACUUM s3;
COMMENT ON TABLE s3 IS 'commented';
DROP TABLE s2, s3;
VALUES (1, 'a'), (2, 'b');
TABLE s;
SELECT repeat('x', 10) WHERE false;
CHECKPOINT;
DISCARD ALL;
