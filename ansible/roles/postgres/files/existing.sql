-- Reasons why an existing server cannot be used, with the fix; empty if it can.
-- Variables of psql: database, writer.
SELECT format('PostgreSQL is %s: install 13 or newer', current_setting('server_version'))
    WHERE current_setting('server_version_num')::int < 130000
UNION ALL
SELECT 'it takes no TLS: set ssl = on, with a certificate that covers its address' WHERE current_setting('ssl') <> 'on'
UNION ALL
SELECT format('%s is %s: set it on', name, setting) FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes') AND setting <> 'on'
UNION ALL
SELECT format('there is no database %s: create it with ENCODING ''UTF8'' TEMPLATE template0', :'database')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
UNION ALL
SELECT format('the database %s is encoded in %s: make it anew with ENCODING ''UTF8'' TEMPLATE template0', datname,
    pg_encoding_to_char(encoding))
    FROM pg_database WHERE datname = :'database' AND pg_encoding_to_char(encoding) <> 'UTF8'
UNION ALL
SELECT format('there is no role %s that may log in: create it', :'writer')
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'writer' AND rolcanlogin)
UNION ALL
SELECT format('the role %s may not connect to the database %s: grant it CONNECT', rolname, datname)
    FROM pg_roles, pg_database WHERE rolname = :'writer' AND datname = :'database'
    AND NOT has_database_privilege(rolname, datname, 'CONNECT')
UNION ALL
SELECT format('pg_hba.conf lets %s in without TLS (line %s): write hostssl', :'writer', line_number)
    FROM pg_hba_file_rules WHERE type IN ('host', 'hostnossl')
    AND (ARRAY['all', :'database'] && database) AND (ARRAY['all', :'writer'] && user_name) AND auth_method <> 'reject';
