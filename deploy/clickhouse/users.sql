-- Users with no more rights than their work needs. Put passwords of your own in, and run
-- this after schema.sql. Nobody but sidetone_migrate may change a table.

CREATE ROLE IF NOT EXISTS sidetone_writer ON CLUSTER '{cluster}';
CREATE ROLE IF NOT EXISTS sidetone_reader ON CLUSTER '{cluster}';
CREATE ROLE IF NOT EXISTS sidetone_migrator ON CLUSTER '{cluster}';

-- The collector inserts, reads what pages show, and deletes what a tenant keeps for a
-- shorter time. It sees which tables there are, and changes none.
GRANT ON CLUSTER '{cluster}' SELECT, INSERT, ALTER DELETE ON sidetone.* TO sidetone_writer;
GRANT ON CLUSTER '{cluster}' SELECT ON system.tables TO sidetone_writer;

-- Grafana and analysts read.
GRANT ON CLUSTER '{cluster}' SELECT ON sidetone.* TO sidetone_reader;

-- Whoever runs schema.sql.
GRANT ON CLUSTER '{cluster}' CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER, SELECT, INSERT ON sidetone.* TO sidetone_migrator;
GRANT ON CLUSTER '{cluster}' CLUSTER, REMOTE ON *.* TO sidetone_migrator, sidetone_writer;

CREATE SETTINGS PROFILE IF NOT EXISTS sidetone_reading ON CLUSTER '{cluster}'
SETTINGS readonly = 2, max_execution_time = 60, max_memory_usage = 4000000000, max_rows_to_read = 2000000000 TO sidetone_reader;

CREATE USER IF NOT EXISTS sidetone_write ON CLUSTER '{cluster}' IDENTIFIED WITH sha256_password BY 'put-a-password-here' DEFAULT ROLE sidetone_writer;
CREATE USER IF NOT EXISTS sidetone_read ON CLUSTER '{cluster}' IDENTIFIED WITH sha256_password BY 'put-a-password-here' DEFAULT ROLE sidetone_reader;
CREATE USER IF NOT EXISTS sidetone_migrate ON CLUSTER '{cluster}' IDENTIFIED WITH sha256_password BY 'put-a-password-here' DEFAULT ROLE sidetone_migrator;

GRANT ON CLUSTER '{cluster}' sidetone_writer TO sidetone_write;
GRANT ON CLUSTER '{cluster}' sidetone_reader TO sidetone_read;
GRANT ON CLUSTER '{cluster}' sidetone_migrator TO sidetone_migrate;

-- An example: a reader who sees one tenant only. Policies hold on the replicas, below the
-- views and the tables over all shards. As soon as a table has a policy, whoever has none
-- sees nothing of it: hence the second one.
CREATE USER IF NOT EXISTS tenant_7 ON CLUSTER '{cluster}' IDENTIFIED WITH sha256_password BY 'put-a-password-here' DEFAULT ROLE sidetone_reader;
GRANT ON CLUSTER '{cluster}' sidetone_reader TO tenant_7;
CREATE ROW POLICY IF NOT EXISTS only_tenant_7 ON CLUSTER '{cluster}' ON sidetone.* USING tenant_id = 7 TO tenant_7;
CREATE ROW POLICY IF NOT EXISTS all_tenants ON CLUSTER '{cluster}' ON sidetone.* USING 1 TO ALL EXCEPT tenant_7;
