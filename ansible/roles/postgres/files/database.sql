-- The statements that are missing for rights within the database to be as they should; nothing when they are.
-- Variables of psql: database, owner, writer, reader.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', datname) FROM pg_database
    WHERE datname = :'database'
    AND EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0)
UNION ALL
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', datname, member)
    FROM pg_database, unnest(ARRAY[:'reader', 'prometheus']) AS member
    WHERE datname = :'database' AND NOT EXISTS (
        SELECT FROM aclexplode(datacl) WHERE pg_get_userbyid(grantee) = member AND privilege_type = 'CONNECT'
    )
UNION ALL
-- Whatever a member makes belongs to the owner: so any member can change it later.
SELECT format('ALTER ROLE %I IN DATABASE %I SET role = %L', :'writer', :'database', :'owner')
    WHERE NOT EXISTS (
        SELECT FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
        WHERE datname = :'database' AND setrole = :'writer'::regrole AND format('role=%s', :'owner') = ANY (setconfig)
    )
UNION ALL
-- So does what a member made before that was so: coordinators that were there first begin as soon as they can.
SELECT format('REASSIGN OWNED BY %I TO %I', :'writer', :'owner')
    WHERE EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner = :'writer'::regrole)
UNION ALL
SELECT 'REVOKE ALL ON SCHEMA public FROM PUBLIC' FROM pg_namespace
    WHERE nspname = 'public' AND EXISTS (SELECT FROM aclexplode(nspacl) WHERE grantee = 0)
UNION ALL
-- Of its own: what it has as one of PUBLIC is revoked just before.
SELECT format('GRANT USAGE ON SCHEMA public TO %I', :'reader')
    WHERE NOT EXISTS (
        SELECT FROM pg_namespace, aclexplode(nspacl)
        WHERE nspname = 'public' AND grantee = :'reader'::regrole AND privilege_type = 'USAGE'
    )
UNION ALL
SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT SELECT ON TABLES TO %I', :'owner', :'reader')
    WHERE NOT EXISTS (
        SELECT FROM pg_default_acl, aclexplode(defaclacl)
        WHERE defaclrole = :'owner'::regrole AND defaclnamespace = 'public'::regnamespace AND defaclobjtype = 'r'
        AND grantee = :'reader'::regrole AND privilege_type = 'SELECT'
    )
UNION ALL
SELECT format('GRANT SELECT ON %s TO %I', pg_class.oid::regclass, :'reader') FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'p')
    AND NOT has_table_privilege(:'reader', pg_class.oid, 'SELECT');
