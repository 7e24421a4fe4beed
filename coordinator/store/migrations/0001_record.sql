-- The record: what people query about tasks, written from the replicated events by one writer at a time.
-- Private inputs, and anything from which they could be guessed, have no column here.
-- Text keys compare byte by byte (COLLATE "C"), so that the order of a listing does not hang on the host's locale.

CREATE TABLE projection (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    term bigint NOT NULL DEFAULT 0 CHECK (term >= 0),
    revision bigint NOT NULL DEFAULT 0 CHECK (revision >= 0),
    fingerprint bytea CHECK (length(fingerprint) = 32),
    CHECK ((revision = 0) = (fingerprint IS NULL))
);
COMMENT ON TABLE projection IS 'How far the record has come, and the Raft term of the leader that may write it.';
COMMENT ON COLUMN projection.fingerprint IS 'SHA-256 of the event numbered `revision`: tells this history from another.';
INSERT INTO projection DEFAULT VALUES;

CREATE TABLE circuits (
    name text COLLATE "C" PRIMARY KEY,
    verifying_key_sha256 text NOT NULL,
    registered_at timestamptz NOT NULL,
    revision bigint NOT NULL
);
COMMENT ON TABLE circuits IS 'Statements that can be proved, each pinned to one verifying key for ever.';

CREATE TABLE workers (
    id text COLLATE "C" PRIMARY KEY,
    incarnation text NOT NULL,
    capacity bigint NOT NULL,
    circuits text[] NOT NULL,
    version text NOT NULL,
    state text NOT NULL CHECK (state IN ('online', 'offline', 'quarantined')),
    reason text,
    registered_at timestamptz NOT NULL,
    revision bigint NOT NULL
);
COMMENT ON COLUMN workers.incarnation IS 'Changes with every start of the worker''s process.';

CREATE TABLE tasks (
    id text COLLATE "C" PRIMARY KEY,
    submitter text NOT NULL,
    circuit text COLLATE "C" NOT NULL,
    public_inputs text[] NOT NULL,
    verifying_key_sha256 text NOT NULL,
    max_retries bigint NOT NULL,
    state text NOT NULL
        CHECK (state IN ('pending', 'assigned', 'in_progress', 'completed', 'failed', 'cancelled')),
    attempt bigint NOT NULL CHECK (attempt >= 0),
    retries bigint NOT NULL,
    worker_id text COLLATE "C",
    term bigint NOT NULL,
    proof bytea,
    error_code text,
    error_message text,
    created_at timestamptz NOT NULL,
    assigned_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    revision bigint NOT NULL,
    CONSTRAINT proof_when_completed CHECK ((state = 'completed') = (proof IS NOT NULL)),
    CONSTRAINT end_when_final CHECK ((state IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT worker_while_leased CHECK (state NOT IN ('assigned', 'in_progress') OR worker_id IS NOT NULL)
);
COMMENT ON COLUMN tasks.attempt IS 'Number of the current or last attempt; 0 before the first.';
COMMENT ON COLUMN tasks.term IS 'Raft term of the leader that assigned that attempt.';

-- Listings: newest first, all of them, by state, or by circuit.
CREATE INDEX tasks_by_age ON tasks (created_at DESC, id DESC);
CREATE INDEX tasks_by_state ON tasks (state, created_at DESC, id DESC);
CREATE INDEX tasks_by_circuit ON tasks (circuit, created_at DESC, id DESC);

CREATE TABLE attempts (
    task_id text COLLATE "C" NOT NULL REFERENCES tasks (id),
    attempt bigint NOT NULL CHECK (attempt >= 1),
    worker_id text COLLATE "C" NOT NULL,
    term bigint NOT NULL,
    state text NOT NULL
        CHECK (state IN ('assigned', 'in_progress', 'completed', 'failed', 'lost', 'released', 'cancelled')),
    error_code text,
    error_message text,
    assigned_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    revision bigint NOT NULL,
    PRIMARY KEY (task_id, attempt),
    CONSTRAINT end_when_final CHECK ((state IN ('assigned', 'in_progress')) = (ended_at IS NULL))
);
COMMENT ON COLUMN attempts.term IS 'Raft term of the leader that assigned it.';

-- A task has one accepted result or none.
CREATE UNIQUE INDEX attempts_accepted ON attempts (task_id) WHERE state = 'completed';
