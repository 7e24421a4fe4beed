-- The fence, for whoever does not come through the projection's own code: a deposed leader, an old release, a script.
-- A transaction that writes must have said, for itself alone, in which term it writes:
--     SELECT set_config('zkp.term', '7', true);
-- and 7 must be the term of the projection. The functions pin their search path: a table of the same name in another
-- schema cannot stand in for the projection.

CREATE FUNCTION zkp_writer_term() RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp
AS $$ SELECT nullif(current_setting('zkp.term', true), '')::bigint $$;

-- Once a statement, not once a row. The row lock makes a new leader's raise of the term wait for this transaction
-- to end, and this statement wait for that raise and see it: there is no moment in which both may write.
CREATE FUNCTION zkp_refuse_other_writers() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    allowed bigint;
BEGIN
    SELECT term INTO allowed FROM public.projection FOR SHARE;
    IF public.zkp_writer_term() IS DISTINCT FROM allowed THEN
        RAISE EXCEPTION '% of % refused: the writer is the leader of term %, and this transaction is of term %',
            lower(TG_OP), TG_TABLE_NAME, allowed, coalesce(public.zkp_writer_term()::text, 'none')
            USING ERRCODE = 'insufficient_privilege', HINT = 'Only the leading coordinator writes the record.';
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION zkp_refuse_removal() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% of % refused: the record keeps what it holds', lower(TG_OP), TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Neither number of the projection ever falls, and a term changes only into the writer's own.
CREATE FUNCTION zkp_check_projection() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    IF public.zkp_writer_term() IS DISTINCT FROM NEW.term THEN
        RAISE EXCEPTION 'update of projection refused: term % is not that of this transaction, %',
            NEW.term, coalesce(public.zkp_writer_term()::text, 'none')
            USING ERRCODE = 'insufficient_privilege', HINT = 'Only the leading coordinator writes the record.';
    END IF;
    IF NEW.term < OLD.term OR NEW.revision < OLD.revision THEN
        RAISE EXCEPTION 'update of projection refused: from term %, revision % back to term %, revision %',
            OLD.term, OLD.revision, NEW.term, NEW.revision
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;

-- What is final stays as it is, whoever writes. The triggers' WHEN keeps this off the path of ordinary updates.
CREATE FUNCTION zkp_keep_final() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'update of % refused: what is final does not change', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE TRIGGER writer BEFORE INSERT OR UPDATE ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_other_writers();
CREATE TRIGGER writer BEFORE INSERT OR UPDATE ON attempts
    FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_other_writers();
CREATE TRIGGER writer BEFORE INSERT OR UPDATE ON workers
    FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_other_writers();
CREATE TRIGGER writer BEFORE INSERT OR UPDATE ON circuits
    FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_other_writers();
CREATE TRIGGER writer BEFORE UPDATE ON projection
    FOR EACH ROW EXECUTE FUNCTION zkp_check_projection();

CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON tasks FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_removal();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON attempts FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_removal();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON workers FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_removal();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON circuits FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_removal();
CREATE TRIGGER kept BEFORE INSERT OR DELETE OR TRUNCATE ON projection
    FOR EACH STATEMENT EXECUTE FUNCTION zkp_refuse_removal();

CREATE TRIGGER final BEFORE UPDATE ON tasks FOR EACH ROW
    WHEN (OLD.state IN ('completed', 'failed', 'cancelled') AND (
        NEW.id, NEW.circuit, NEW.public_inputs, NEW.verifying_key_sha256, NEW.state, NEW.attempt, NEW.worker_id,
        NEW.proof, NEW.finished_at
    ) IS DISTINCT FROM (
        OLD.id, OLD.circuit, OLD.public_inputs, OLD.verifying_key_sha256, OLD.state, OLD.attempt, OLD.worker_id,
        OLD.proof, OLD.finished_at
    ))
    EXECUTE FUNCTION zkp_keep_final();
CREATE TRIGGER final BEFORE UPDATE ON attempts FOR EACH ROW
    WHEN (OLD.state NOT IN ('assigned', 'in_progress') AND (
        NEW.task_id, NEW.attempt, NEW.worker_id, NEW.term, NEW.state, NEW.ended_at
    ) IS DISTINCT FROM (
        OLD.task_id, OLD.attempt, OLD.worker_id, OLD.term, OLD.state, OLD.ended_at
    ))
    EXECUTE FUNCTION zkp_keep_final();
CREATE TRIGGER final BEFORE UPDATE ON circuits FOR EACH ROW
    WHEN ((NEW.name, NEW.verifying_key_sha256) IS DISTINCT FROM (OLD.name, OLD.verifying_key_sha256))
    EXECUTE FUNCTION zkp_keep_final();
