-- The log-in and the schema of the example application. Its protected tables are made through pgseal.
CREATE ROLE app LOGIN PASSWORD 'app';
GRANT CREATE ON SCHEMA public TO app;
