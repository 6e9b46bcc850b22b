/**
 * The tables, as steps from one version to the next. A step that was released is never changed: a new one is added
 * behind it. Each runs in one transaction together with the count of `schema_version`.
 *
 * `tasks` is hot and narrow: state and what orders it. What is read once an attempt lies in tables of its own.
 */
export const migrations: readonly string[] = [
  `
  CREATE TABLE tasks (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    band INTEGER NOT NULL,
    status INTEGER NOT NULL,
    born INTEGER NOT NULL,
    cost REAL NOT NULL,
    tag REAL,
    bytes INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    attempts_max INTEGER NOT NULL,
    seq INTEGER NOT NULL DEFAULT 1,
    notify INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    run_at INTEGER,
    ready_at INTEGER,
    deadline_at INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    lease_until INTEGER,
    owner TEXT,
    parent TEXT,
    position INTEGER
  ) STRICT;
  CREATE INDEX tasks_ready ON tasks (model, band, tag, n) WHERE status = 1;
  CREATE INDEX tasks_delayed ON tasks (run_at) WHERE status = 0;
  CREATE INDEX tasks_deadline ON tasks (deadline_at) WHERE deadline_at IS NOT NULL AND status < 2;
  CREATE INDEX tasks_lease ON tasks (lease_until) WHERE status = 2;
  CREATE INDEX tasks_list ON tasks (tenant, id);
  CREATE INDEX tasks_failed ON tasks (tenant, id) WHERE status > 3;
  CREATE INDEX tasks_parent ON tasks (parent, position) WHERE parent IS NOT NULL;
  CREATE INDEX tasks_finished ON tasks (finished_at) WHERE status > 2;

  CREATE TABLE payloads (
    n INTEGER PRIMARY KEY,
    payload BLOB NOT NULL,
    metadata TEXT,
    attempts_each INTEGER NOT NULL,
    idempotency_key TEXT
  ) STRICT;
  CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    n INTEGER NOT NULL,
    fingerprint TEXT,
    PRIMARY KEY (tenant, key)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE results (
    n INTEGER PRIMARY KEY,
    result BLOB,
    error_code TEXT,
    error_message TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cached_tokens INTEGER
  ) STRICT;
  CREATE TABLE steps (
    n INTEGER NOT NULL,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    result BLOB NOT NULL,
    PRIMARY KEY (n, step)
  ) STRICT;
  CREATE TABLE events (
    n INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    status INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    error_code TEXT,
    error_message TEXT,
    instance TEXT,
    PRIMARY KEY (n, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE lanes (
    model TEXT NOT NULL,
    band INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    finish REAL NOT NULL,
    PRIMARY KEY (model, band, tenant)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE tallies (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    status INTEGER NOT NULL,
    tasks INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (kind, name, status)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    n INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX outbox_due ON outbox (due_at);
  CREATE INDEX outbox_task ON outbox (n);

  CREATE TABLE documents (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    open INTEGER NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (kind, id)
  ) STRICT;
  CREATE INDEX documents_list ON documents (kind, tenant, id);
  CREATE INDEX documents_open ON documents (id) WHERE open = 1;
  CREATE INDEX documents_expiry ON documents (expires_at) WHERE expires_at IS NOT NULL;
  CREATE TABLE blobs (
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (id, number)
  ) STRICT;
  CREATE TABLE cache (
    key TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    value BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX cache_expiry ON cache (expires_at);
  CREATE INDEX cache_age ON cache (stored_at, bytes);
  `,
  `
  CREATE TABLE access_revisions (part TEXT PRIMARY KEY, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE access_keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    roles TEXT NOT NULL,
    limits TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    revision INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX access_keys_age ON access_keys (created_at, id);
  CREATE INDEX access_keys_tenant ON access_keys (tenant, created_at, id);
  CREATE INDEX access_keys_revision ON access_keys (revision);
  CREATE TABLE access_tenants (
    name TEXT PRIMARY KEY,
    settings TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE access_secrets (
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    secret TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (kind, number)
  ) STRICT, WITHOUT ROWID;
  `,
  // Tells a message that somebody works on from one that waits for its next try.
  `
  ALTER TABLE outbox ADD COLUMN leased INTEGER NOT NULL DEFAULT 0;
  `,
  // A list of one model reads its entries alone, and not the row behind each: a fifth of the time. An index by model
  // would be faster still, and every submission would pay for it.
  `
  DROP INDEX tasks_list;
  CREATE INDEX tasks_list ON tasks (tenant, id, model);
  `,
  // Of one tenant the hours lie in a row; days by tenant are what budgets read, every few seconds.
  `
  CREATE TABLE usage_hours (
    tenant TEXT NOT NULL,
    hour_at INTEGER NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    failed_requests INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    busy_ms REAL NOT NULL,
    cost REAL NOT NULL,
    PRIMARY KEY (tenant, hour_at, key, model)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX usage_hours_at ON usage_hours (hour_at);
  CREATE TABLE usage_days (
    tenant TEXT NOT NULL,
    day_at INTEGER NOT NULL,
    cost REAL NOT NULL,
    PRIMARY KEY (tenant, day_at)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX usage_days_at ON usage_days (day_at);
  CREATE TABLE usage_writers (
    writer TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
]
