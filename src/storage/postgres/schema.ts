/**
 * The tables, as steps from one version to the next. A step that was released is never changed: a new one is added
 * behind it. Each runs in one transaction together with the row that counts it.
 *
 * `tasks` is hot and narrow: state and what orders it. What is read once an attempt lies in tables of its own. Every
 * change of state leaves a dead row and dead index entries behind, hence the room in its pages and the eager vacuum.
 *
 * A task's history is partly in its row: the submission (`created_at`, `born`), the attempt that runs (`started_at`)
 * and the end of one that succeeded (`finished_at`, `instance`) are written as events only when the row moves on. So
 * the usual task (submitted, run, succeeded) writes none.
 *
 * Nobody counts in `tallies` but the one who folds `deltas` into it: two batches never wait for each other's counters.
 */
export const migrations: readonly string[] = [
  `
  CREATE TYPE status AS ENUM ('delayed', 'queued', 'running', 'succeeded', 'dead', 'cancelled', 'expired');

  CREATE TABLE tasks (
    id text COLLATE "C" PRIMARY KEY,
    created_at bigint NOT NULL,
    run_at bigint,
    ready_at bigint,
    deadline_at bigint,
    started_at bigint,
    finished_at bigint,
    lease_until bigint,
    tag double precision,
    cost double precision NOT NULL,
    bytes integer NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    attempts_max integer NOT NULL,
    attempts_each integer NOT NULL,
    seq integer NOT NULL DEFAULT 1,
    stored_seq integer NOT NULL DEFAULT 1,
    position integer,
    prompt_tokens integer,
    completion_tokens integer,
    cached_tokens integer,
    -- Of the result; 0 has no row in results, null is no result.
    result_bytes integer,
    status status NOT NULL,
    born status NOT NULL,
    band smallint NOT NULL,
    notify boolean NOT NULL,
    cancel_requested boolean NOT NULL DEFAULT false,
    has_steps boolean NOT NULL DEFAULT false,
    tenant text COLLATE "C" NOT NULL,
    endpoint text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    owner text COLLATE "C",
    parent text COLLATE "C",
    instance text COLLATE "C",
    idempotency_key text COLLATE "C",
    error_code text COLLATE "C",
    error_message text COLLATE "C",
    metadata jsonb
  ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0);
  CREATE INDEX tasks_ready ON tasks (model, band, tag, id) WHERE status = 'queued';
  CREATE INDEX tasks_delayed ON tasks (run_at, id) WHERE status = 'delayed';
  CREATE INDEX tasks_deadline ON tasks (deadline_at, id)
    WHERE deadline_at IS NOT NULL AND status IN ('delayed', 'queued');
  -- A claim enters one of these and a settlement the other. Not by the end of the lease: a renewal must not have to
  -- move an entry of an index.
  CREATE INDEX tasks_running ON tasks (tenant, id) WHERE status = 'running';
  CREATE INDEX tasks_list ON tasks (tenant, status, id) WHERE status <> 'running';
  CREATE INDEX tasks_parent ON tasks (parent, position) WHERE parent IS NOT NULL;
  CREATE INDEX tasks_finished ON tasks (finished_at, id) WHERE status >= 'succeeded';

  CREATE TABLE payloads (
    id text COLLATE "C" PRIMARY KEY,
    payload bytea NOT NULL
  );
  CREATE TABLE results (
    id text COLLATE "C" PRIMARY KEY,
    result bytea NOT NULL
  );
  CREATE TABLE steps (
    id text COLLATE "C",
    step integer,
    attempt integer NOT NULL,
    result bytea NOT NULL,
    PRIMARY KEY (id, step)
  );
  CREATE TABLE events (
    id text COLLATE "C",
    seq integer,
    at bigint NOT NULL,
    status status NOT NULL,
    attempt integer NOT NULL,
    error_code text COLLATE "C",
    error_message text COLLATE "C",
    instance text COLLATE "C",
    PRIMARY KEY (id, seq)
  );
  CREATE TABLE idempotency (
    tenant text COLLATE "C",
    key text COLLATE "C",
    id text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C",
    PRIMARY KEY (tenant, key)
  );
  CREATE TABLE lanes (
    model text COLLATE "C",
    band smallint,
    tenant text COLLATE "C",
    finish double precision NOT NULL,
    PRIMARY KEY (model, band, tenant)
  ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

  CREATE TABLE tallies (
    kind text COLLATE "C",
    name text COLLATE "C",
    tenant text COLLATE "C",
    status status,
    tasks bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (kind, name, tenant, status)
  ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
  -- What one batch has changed, as one row: arrays of equal length.
  CREATE TABLE deltas (
    tenants text[] NOT NULL,
    models text[] NOT NULL,
    parents text[] NOT NULL,
    statuses status[] NOT NULL,
    tasks bigint[] NOT NULL,
    bytes bigint[] NOT NULL
  ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
  CREATE VIEW changes AS
    SELECT u.tenant COLLATE "C" AS tenant, u.model COLLATE "C" AS model, u.parent COLLATE "C" AS parent, u.status,
      u.tasks, u.bytes
    FROM deltas d, unnest(d.tenants, d.models, d.parents, d.statuses, d.tasks, d.bytes)
      AS u (tenant, model, parent, status, tasks, bytes);

  CREATE TABLE outbox (
    id text COLLATE "C" PRIMARY KEY,
    task_id text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    due_at bigint NOT NULL
  );
  CREATE INDEX outbox_due ON outbox (due_at, id);
  CREATE INDEX outbox_task ON outbox (task_id);

  CREATE TABLE documents (
    kind text COLLATE "C",
    id text COLLATE "C",
    tenant text COLLATE "C" NOT NULL,
    version integer NOT NULL DEFAULT 1,
    created_at bigint NOT NULL,
    expires_at bigint,
    open boolean NOT NULL,
    data text NOT NULL,
    PRIMARY KEY (kind, id)
  );
  CREATE INDEX documents_list ON documents (kind, tenant, id);
  CREATE INDEX documents_open ON documents (kind, id) WHERE open;
  CREATE INDEX documents_expiry ON documents (expires_at) WHERE expires_at IS NOT NULL;
  CREATE TABLE blobs (
    id text COLLATE "C",
    number integer,
    bytes bytea NOT NULL,
    PRIMARY KEY (id, number)
  );
  CREATE TABLE cache (
    key text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    bytes integer NOT NULL,
    stored_at bigint NOT NULL,
    expires_at bigint NOT NULL
  );
  CREATE INDEX cache_expiry ON cache (expires_at);
  CREATE INDEX cache_age ON cache (stored_at, bytes);

  -- Compressed is not what these are for; stored out of line as they are, they are read faster.
  ALTER TABLE payloads ALTER COLUMN payload SET STORAGE EXTERNAL;
  ALTER TABLE results ALTER COLUMN result SET STORAGE EXTERNAL;
  ALTER TABLE blobs ALTER COLUMN bytes SET STORAGE EXTERNAL;
  `,
  `
  CREATE TABLE access_revisions (part text COLLATE "C" PRIMARY KEY, revision bigint NOT NULL);
  CREATE TABLE access_keys (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    name text NOT NULL,
    hash text NOT NULL,
    roles text NOT NULL,
    limits text,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    revision bigint NOT NULL
  );
  CREATE INDEX access_keys_age ON access_keys (created_at, id);
  CREATE INDEX access_keys_tenant ON access_keys (tenant, created_at, id);
  CREATE INDEX access_keys_revision ON access_keys (revision);
  CREATE TABLE access_tenants (
    name text COLLATE "C" PRIMARY KEY,
    settings text NOT NULL,
    version integer NOT NULL,
    updated_at bigint NOT NULL
  );
  CREATE TABLE access_secrets (
    kind text COLLATE "C",
    number integer,
    id text NOT NULL,
    algorithm text NOT NULL,
    secret text NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (kind, number)
  );
  `,
  // Of one tenant the hours lie in a row; days by tenant are what budgets read, every few seconds. The rows of the hour
  // and of the day are written again each second: room in their pages, and a vacuum that comes early.
  `
  CREATE TABLE usage_hours (
    tenant text COLLATE "C",
    hour_at bigint,
    key text COLLATE "C",
    model text COLLATE "C",
    requests bigint NOT NULL,
    failed_requests bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    busy_ms double precision NOT NULL,
    cost double precision NOT NULL,
    PRIMARY KEY (tenant, hour_at, key, model)
  ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
  CREATE INDEX usage_hours_at ON usage_hours (hour_at);
  CREATE TABLE usage_days (
    tenant text COLLATE "C",
    day_at bigint,
    cost double precision NOT NULL,
    PRIMARY KEY (tenant, day_at)
  ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
  CREATE INDEX usage_days_at ON usage_days (day_at);
  CREATE TABLE usage_writers (
    writer text COLLATE "C" PRIMARY KEY,
    sequence bigint NOT NULL,
    seen_at bigint NOT NULL
  ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
  `,
]
