-- On a distribution point's own machine: what its site asked of it last, so that it serves without its site.
CREATE TABLE assignment (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    etag     TEXT NOT NULL,
    body     TEXT NOT NULL,            -- JSON, as it came
    received INTEGER NOT NULL
) STRICT;

-- How far the work for each package is.
CREATE TABLE assigned_work (
    package_id TEXT PRIMARY KEY,
    work_order INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('success', 'failed', 'warning')),
    problem    TEXT                    -- JSON
) STRICT, WITHOUT ROWID;
