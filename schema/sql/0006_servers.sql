-- How far the synchronisation with each update server is. Anchors are the server's own words and mean nothing to us.
CREATE TABLE server_anchor (
    source   TEXT NOT NULL,            -- name of the configured source
    scope    TEXT NOT NULL CHECK (scope IN ('categories', 'updates')),
    endpoint TEXT NOT NULL,            -- root of the server that said it: another server's anchor is void
    anchor   TEXT NOT NULL,
    filter   TEXT NOT NULL,            -- JSON: ids of categories and classifications it was asked with, sorted
    PRIMARY KEY (source, scope)
) STRICT, WITHOUT ROWID;

-- A list that was answered and is not all fetched yet. Its anchor stands once nothing of it is pending.
CREATE TABLE server_pass (
    source   TEXT NOT NULL,
    scope    TEXT NOT NULL CHECK (scope IN ('categories', 'updates')),
    endpoint TEXT NOT NULL,
    anchor   TEXT NOT NULL,
    filter   TEXT NOT NULL,
    PRIMARY KEY (source, scope)
) STRICT, WITHOUT ROWID;

CREATE TABLE server_pending (
    source    TEXT NOT NULL,
    scope     TEXT NOT NULL,
    update_id BLOB NOT NULL CHECK (length(update_id) = 16),
    number    INTEGER NOT NULL,
    PRIMARY KEY (source, scope, update_id, number)
) STRICT, WITHOUT ROWID;

-- Revisions that the server cannot give, or gives damaged. Tried again by each run.
CREATE TABLE server_quarantine (
    source    TEXT NOT NULL,
    update_id BLOB NOT NULL CHECK (length(update_id) = 16),
    number    INTEGER NOT NULL,        -- 0: no revision of the update could be found
    code      TEXT NOT NULL,
    reason    TEXT NOT NULL,
    since     INTEGER NOT NULL,
    PRIMARY KEY (source, update_id, number)
) STRICT, WITHOUT ROWID;
