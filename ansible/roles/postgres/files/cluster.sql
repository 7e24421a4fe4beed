-- The statements that are missing for the roles and the database to be as they should; nothing when they are.
-- Variables of psql: database, owner, writer, reader.
SELECT format('CREATE ROLE %I NOLOGIN', :'owner')
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner')
UNION ALL
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY[:'writer', :'reader', 'prometheus']) AS name
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
UNION ALL
SELECT format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', rolname) FROM pg_roles
    WHERE rolname IN (:'owner', :'writer', :'reader', 'prometheus')
    AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
UNION ALL
SELECT format('ALTER ROLE %I NOLOGIN', rolname) FROM pg_roles WHERE rolname = :'owner' AND rolcanlogin
UNION ALL
SELECT format('GRANT %I TO %I', granted, member)
    FROM (VALUES (:'owner', :'writer'), ('pg_monitor', 'prometheus')) AS membership (granted, member)
    WHERE NOT EXISTS (
        SELECT FROM pg_auth_members
        WHERE pg_get_userbyid(roleid) = granted AND pg_get_userbyid(pg_auth_members.member) = membership.member
    )
UNION ALL
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' TEMPLATE template0', :'database', :'owner')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
UNION ALL
SELECT format('ALTER DATABASE %I OWNER TO %I', datname, :'owner') FROM pg_database
    WHERE datname = :'database' AND pg_get_userbyid(datdba) <> :'owner';
