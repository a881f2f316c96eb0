-- What is true of one of the roles $1 and not of the other, in words: memberships, attributes, settings, and in this
-- database and what all share, ownership, row security policies, and privileges that it does not have through another role.
-- Temporary tables are their session's.
WITH pair AS (
    SELECT r.*, r.rolname::text AS name FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($1::text[]::name[])
), facts AS (
    SELECT p.name, 'is a member of ' || quote_ident(g.rolname)
            || CASE WHEN m.admin_option THEN ' with ADMIN OPTION' ELSE '' END
            || CASE WHEN to_jsonb(m) ->> 'inherit_option' = 'false' THEN ' with INHERIT FALSE' ELSE '' END
            || CASE WHEN to_jsonb(m) ->> 'set_option' = 'false' THEN ' with SET FALSE' ELSE '' END AS fact
        FROM pair p
        JOIN pg_catalog.pg_auth_members m ON m.member = p.oid
        JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
    UNION ALL
    SELECT p.name, a.fact
        FROM pair p
        CROSS JOIN LATERAL (VALUES
            (p.rolsuper, 'is a SUPERUSER'), (p.rolcreaterole, 'has CREATEROLE'), (p.rolcreatedb, 'has CREATEDB'),
            (p.rolreplication, 'has REPLICATION'), (p.rolbypassrls, 'has BYPASSRLS'), (NOT p.rolinherit, 'has NOINHERIT')
        ) a (holds, fact)
        WHERE a.holds
    UNION ALL
    SELECT p.name, 'has CONNECTION LIMIT ' || p.rolconnlimit FROM pair p
    UNION ALL
    SELECT p.name, 'has the setting ' || c.setting || coalesce(' in ' || quote_ident(d.datname), '')
        FROM pair p
        JOIN pg_catalog.pg_db_role_setting s ON s.setrole = p.oid
        LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
        CROSS JOIN LATERAL unnest(s.setconfig) c (setting)
    UNION ALL
    SELECT p.name, CASE d.deptype
            WHEN 'o' THEN 'owns ' WHEN 'r' THEN 'is named by ' ELSE 'has privileges of its own on ' END
            || coalesce(pg_describe_object(d.classid, d.objid, d.objsubid), 'something') || coalesce(': ' || a.privileges, '')
        FROM pair p
        JOIN pg_catalog.pg_shdepend d ON d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = p.oid
        LEFT JOIN LATERAL (
            SELECT string_agg(DISTINCT e.privilege_type || CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, ', ') AS privileges
            FROM (
                SELECT relacl AS acl FROM pg_catalog.pg_class
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND oid = d.objid AND d.objsubid = 0
                UNION ALL SELECT attacl FROM pg_catalog.pg_attribute
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND attrelid = d.objid AND attnum = d.objsubid AND d.objsubid <> 0
                UNION ALL SELECT nspacl FROM pg_catalog.pg_namespace
                    WHERE d.classid = 'pg_catalog.pg_namespace'::regclass AND oid = d.objid
                UNION ALL SELECT proacl FROM pg_catalog.pg_proc WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND oid = d.objid
                UNION ALL SELECT datacl FROM pg_catalog.pg_database
                    WHERE d.classid = 'pg_catalog.pg_database'::regclass AND oid = d.objid
                UNION ALL SELECT typacl FROM pg_catalog.pg_type WHERE d.classid = 'pg_catalog.pg_type'::regclass AND oid = d.objid
                UNION ALL SELECT lanacl FROM pg_catalog.pg_language
                    WHERE d.classid = 'pg_catalog.pg_language'::regclass AND oid = d.objid
                UNION ALL SELECT srvacl FROM pg_catalog.pg_foreign_server
                    WHERE d.classid = 'pg_catalog.pg_foreign_server'::regclass AND oid = d.objid
                UNION ALL SELECT fdwacl FROM pg_catalog.pg_foreign_data_wrapper
                    WHERE d.classid = 'pg_catalog.pg_foreign_data_wrapper'::regclass AND oid = d.objid
                UNION ALL SELECT spcacl FROM pg_catalog.pg_tablespace
                    WHERE d.classid = 'pg_catalog.pg_tablespace'::regclass AND oid = d.objid
                UNION ALL SELECT lomacl FROM pg_catalog.pg_largeobject_metadata
                    WHERE d.classid = 'pg_catalog.pg_largeobject'::regclass AND oid = d.objid
                UNION ALL SELECT defaclacl FROM pg_catalog.pg_default_acl
                    WHERE d.classid = 'pg_catalog.pg_default_acl'::regclass AND oid = d.objid
            ) o, aclexplode(o.acl) e
            WHERE d.deptype = 'a' AND e.grantee = p.oid
        ) a ON true
        WHERE d.deptype IN ('o', 'a', 'r')
          AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
          AND NOT EXISTS (
              SELECT 1 FROM pg_catalog.pg_class c
              WHERE d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid AND c.relpersistence = 't')
)
SELECT f.name, left(f.fact, 300)
    FROM facts f
    WHERE NOT EXISTS (SELECT 1 FROM facts o WHERE o.name <> f.name AND o.fact = f.fact)
    ORDER BY 1, 2
    LIMIT 10
