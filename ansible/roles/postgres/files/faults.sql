-- What PostgreSQL could not make sense of, or would need a restart for; nothing when all is well.
SELECT format('%s line %s: %s', sourcefile, sourceline, error) FROM pg_file_settings WHERE error IS NOT NULL
UNION ALL
SELECT format('pg_hba.conf line %s: %s', line_number, error) FROM pg_hba_file_rules WHERE error IS NOT NULL
UNION ALL
SELECT format('pg_ident.conf line %s: %s', line_number, error) FROM pg_ident_file_mappings WHERE error IS NOT NULL
UNION ALL
SELECT format('%s wants a restart', name) FROM pg_settings WHERE pending_restart;
