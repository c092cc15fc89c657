-- Who this site is, and small things that the command line sets.
CREATE TABLE site (
    key   TEXT PRIMARY KEY,            -- code, created
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Long work. One shape for command line, admin socket and API.
CREATE TABLE task (
    task_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL,            -- sync, download, validate
    title    TEXT NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'cancelled', 'interrupted')),
    created  INTEGER NOT NULL,
    finished INTEGER,
    phases   TEXT NOT NULL,            -- JSON: how far each phase is
    result   TEXT,                     -- JSON: the answer
    problem  TEXT                      -- JSON: why not, or why not all
) STRICT;

-- Who did what to what. Never changed, never deleted.
CREATE TABLE audit (
    audit_id INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    who      TEXT NOT NULL,
    what     TEXT NOT NULL,            -- package.create, license.accept, …
    object   TEXT NOT NULL
) STRICT;

-- Synchronisation runs.
CREATE TABLE run (
    run_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL,            -- full, delta
    state    TEXT NOT NULL CHECK (state IN ('running', 'succeeded', 'partly', 'failed', 'interrupted')),
    started  INTEGER NOT NULL,
    finished INTEGER,
    report   TEXT,                     -- JSON
    problem  TEXT                      -- JSON
) STRICT;
