-- Who was shut out, and when: the cluster forgets a revocation once its certificate has expired, the record does not.

CREATE TABLE revocations (
    serial text COLLATE "C" PRIMARY KEY,
    subject text,
    reason text,
    revoked_at timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    revision bigint NOT NULL
);
COMMENT ON TABLE revocations IS 'Certificates that nobody may use any more.';
COMMENT ON COLUMN revocations.serial IS 'The serial number, hexadecimal, lower case.';
COMMENT ON COLUMN revocations.subject IS 'Whose it was, as ROLE/NAME, where that was known.';
COMMENT ON COLUMN revocations.not_after IS 'When it expires anyway, or the latest time at which it can.';

CREATE TRIGGER writer BEFORE INSERT OR UPDATE ON revocations
    FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_other_writers();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON revocations
    FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_removal();
CREATE TRIGGER final BEFORE UPDATE ON revocations FOR EACH ROW
    WHEN (NEW IS DISTINCT FROM OLD)
    EXECUTE FUNCTION zkp_keep_final();
