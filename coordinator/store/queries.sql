-- Every statement of the store, by name. A block starts with its name and its purpose.
-- Parameters give times as milliseconds since the epoch (0: not yet) and NULL as empty text; results give times as
-- timestamptz.

-- name: use_term
-- Set the term of this transaction; the fence's triggers compare it with that of the projection.
SELECT set_config('zkp.term', %(term)s::text, true)

-- name: raise_term
-- Become the writer; no row if a later term has written.
UPDATE projection SET term = %(term)s WHERE term <= %(term)s
RETURNING term, revision, fingerprint

-- name: position
-- Revision and term of the projection.
SELECT term, revision, fingerprint FROM projection

-- name: advance
-- The fence: first statement of every write. No row if the term or the revision is not the expected one.
UPDATE projection SET revision = %(revision)s, fingerprint = %(fingerprint)s
WHERE term = %(term)s AND revision = %(expected)s
RETURNING revision

-- name: write_circuits
-- A circuit is pinned once.
INSERT INTO circuits (name, verifying_key_sha256, registered_at, revision)
SELECT name, verifying_key_sha256, to_timestamp(registered_ms / 1000.0), revision
FROM unnest(
    %(name)s::text[], %(verifying_key_sha256)s::text[], %(registered_ms)s::bigint[], %(revision)s::bigint[]
) AS new (name, verifying_key_sha256, registered_ms, revision)
ON CONFLICT (name) DO NOTHING

-- name: write_workers
-- Workers after the batch.
INSERT INTO workers (id, incarnation, capacity, circuits, version, state, reason, registered_at, revision)
SELECT id, incarnation, capacity,
    ARRAY(SELECT e.value FROM jsonb_array_elements_text(circuits) WITH ORDINALITY AS e (value, place) ORDER BY place),
    version, state, nullif(reason, ''), to_timestamp(registered_ms / 1000.0), revision
FROM unnest(
    %(id)s::text[], %(incarnation)s::text[], %(capacity)s::bigint[], %(circuits)s::jsonb[], %(version)s::text[],
    %(state)s::text[], %(reason)s::text[], %(registered_ms)s::bigint[], %(revision)s::bigint[]
) AS new (id, incarnation, capacity, circuits, version, state, reason, registered_ms, revision)
ON CONFLICT (id) DO UPDATE SET
    incarnation = excluded.incarnation, capacity = excluded.capacity, circuits = excluded.circuits,
    version = excluded.version, state = excluded.state, reason = excluded.reason,
    registered_at = excluded.registered_at, revision = excluded.revision

-- name: write_revocations
-- A certificate is revoked once; one that was evicted and is revoked again keeps its first date.
INSERT INTO revocations (serial, subject, reason, revoked_at, not_after, revision)
SELECT serial, nullif(subject, ''), nullif(reason, ''), to_timestamp(revoked_ms / 1000.0),
    to_timestamp(not_after_ms / 1000.0), revision
FROM unnest(
    %(serial)s::text[], %(subject)s::text[], %(reason)s::text[], %(revoked_ms)s::bigint[],
    %(not_after_ms)s::bigint[], %(revision)s::bigint[]
) AS new (serial, subject, reason, revoked_ms, not_after_ms, revision)
ON CONFLICT (serial) DO NOTHING

-- name: write_tasks
-- Tasks after the batch. Returns the ids that were written: a task that is already final in the projection is not
-- changed.
INSERT INTO tasks AS recorded (
    id, submitter, circuit, public_inputs, verifying_key_sha256, max_retries, state, attempt, retries, worker_id,
    term, proof, error_code, error_message, created_at, assigned_at, started_at, finished_at, revision
)
SELECT id, submitter, circuit,
    ARRAY(
        SELECT e.value FROM jsonb_array_elements_text(public_inputs) WITH ORDINALITY AS e (value, place)
        ORDER BY place
    ),
    verifying_key_sha256, max_retries, state, attempt, retries, nullif(worker_id, ''), term, proof,
    nullif(error_code, ''), nullif(error_message, ''), to_timestamp(created_ms / 1000.0),
    to_timestamp(nullif(assigned_ms, 0) / 1000.0), to_timestamp(nullif(started_ms, 0) / 1000.0),
    to_timestamp(nullif(finished_ms, 0) / 1000.0), revision
FROM unnest(
    %(id)s::text[], %(submitter)s::text[], %(circuit)s::text[], %(public_inputs)s::jsonb[],
    %(verifying_key_sha256)s::text[], %(max_retries)s::bigint[], %(state)s::text[], %(attempt)s::bigint[],
    %(retries)s::bigint[], %(worker_id)s::text[], %(term)s::bigint[], %(proof)s::bytea[], %(error_code)s::text[],
    %(error_message)s::text[], %(created_ms)s::bigint[], %(assigned_ms)s::bigint[], %(started_ms)s::bigint[],
    %(finished_ms)s::bigint[], %(revision)s::bigint[]
) AS new (
    id, submitter, circuit, public_inputs, verifying_key_sha256, max_retries, state, attempt, retries, worker_id,
    term, proof, error_code, error_message, created_ms, assigned_ms, started_ms, finished_ms, revision
)
ON CONFLICT (id) DO UPDATE SET
    state = excluded.state, attempt = excluded.attempt, retries = excluded.retries, worker_id = excluded.worker_id,
    term = excluded.term, proof = excluded.proof, error_code = excluded.error_code,
    error_message = excluded.error_message, assigned_at = excluded.assigned_at, started_at = excluded.started_at,
    finished_at = excluded.finished_at, revision = excluded.revision
WHERE recorded.state NOT IN ('completed', 'failed', 'cancelled')
RETURNING id

-- name: write_attempts
-- Attempts after the batch.
INSERT INTO attempts AS recorded (
    task_id, attempt, worker_id, term, state, error_code, error_message, assigned_at, started_at, ended_at, revision
)
SELECT task_id, attempt, worker_id, term, state, nullif(error_code, ''), nullif(error_message, ''),
    to_timestamp(assigned_ms / 1000.0), to_timestamp(nullif(started_ms, 0) / 1000.0),
    to_timestamp(nullif(ended_ms, 0) / 1000.0), revision
FROM unnest(
    %(task_id)s::text[], %(attempt)s::bigint[], %(worker_id)s::text[], %(term)s::bigint[], %(state)s::text[],
    %(error_code)s::text[], %(error_message)s::text[], %(assigned_ms)s::bigint[], %(started_ms)s::bigint[],
    %(ended_ms)s::bigint[], %(revision)s::bigint[]
) AS new (
    task_id, attempt, worker_id, term, state, error_code, error_message, assigned_ms, started_ms, ended_ms, revision
)
ON CONFLICT (task_id, attempt) DO UPDATE SET
    state = excluded.state, error_code = excluded.error_code, error_message = excluded.error_message,
    started_at = excluded.started_at, ended_at = excluded.ended_at, revision = excluded.revision

-- name: get_task
-- One task by its id.
SELECT * FROM tasks WHERE id = %(id)s

-- name: get_attempts
-- Every attempt of one task, first to last.
SELECT * FROM attempts WHERE task_id = %(id)s ORDER BY attempt

-- name: list_tasks
-- One page, newest first, after (before_ms, before_id). The parameters are known when this is planned, so that an
-- unused filter costs nothing and a used one has its index.
SELECT * FROM tasks
WHERE (%(state)s::text IS NULL OR state = %(state)s)
    AND (%(circuit)s::text IS NULL OR circuit = %(circuit)s)
    AND (%(before_ms)s::bigint IS NULL
        OR (created_at, id) < (to_timestamp(%(before_ms)s / 1000.0), %(before_id)s::text))
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s

-- name: summary
-- Totals from one snapshot: position of the projection, number of tasks per state, and number of completed tasks with
-- exactly one completed attempt that has the task's attempt number and worker.
SELECT term, revision,
    (SELECT coalesce(jsonb_object_agg(state, tasks), '{}')
        FROM (SELECT state, count(*) AS tasks FROM tasks GROUP BY state) AS counted) AS counts,
    (SELECT count(*) FROM tasks WHERE state = 'completed' AND (
        SELECT count(*) = 1 AND bool_and(accepted.attempt = tasks.attempt AND accepted.worker_id = tasks.worker_id)
        FROM attempts AS accepted WHERE accepted.task_id = tasks.id AND accepted.state = 'completed'
    )) AS accepted_once
FROM projection

-- name: find_tables
-- Which of the initial tables exist; NULL for a missing one.
SELECT to_regclass('public.schema_migrations') AS migrations, to_regclass('public.projection') AS projection

-- name: lock_migrations
-- One migrating leader at a time; released at the end of the transaction. The number is "zkp" in ASCII.
SELECT pg_advisory_xact_lock(8022896)

-- name: create_migrations
-- The table of applied migrations.
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: applied_migrations
-- Applied migrations, in order.
SELECT version, name, sha256 FROM schema_migrations ORDER BY version

-- name: record_migration
-- Store one as applied, in the transaction that applied it.
INSERT INTO schema_migrations (version, name, sha256) VALUES (%(version)s, %(name)s, %(sha256)s)

-- name: database_encoding
-- The projection stores text of every script, and therefore needs UTF-8.
SELECT current_setting('server_encoding') AS encoding

-- name: unlimited_statement
-- An index over many rows takes long: no limit within this transaction.
SET LOCAL statement_timeout = 0
