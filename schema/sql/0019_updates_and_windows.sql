-- Updates that are deployed to collections beside task sequences. Their ids come from the counter of deployments.
CREATE TABLE update_deployment (
    deployment_id   TEXT PRIMARY KEY,  -- XYZ20001
    number          INTEGER NOT NULL UNIQUE,
    collection_id   INTEGER NOT NULL REFERENCES collection,
    purpose         TEXT NOT NULL CHECK (purpose IN ('available', 'required')),
    available       INTEGER NOT NULL,
    deadline        INTEGER,           -- of required ones
    expires         INTEGER,
    comment         TEXT NOT NULL,
    stopped         INTEGER,           -- not offered since
    created         INTEGER NOT NULL,
    created_by      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE update_deployment_member (
    deployment_id TEXT NOT NULL REFERENCES update_deployment ON DELETE CASCADE,
    position      INTEGER NOT NULL,
    update_id     BLOB NOT NULL CHECK (length(update_id) = 16),
    title         TEXT NOT NULL,       -- as it was when it was deployed
    PRIMARY KEY (deployment_id, update_id)
) STRICT, WITHOUT ROWID;

-- When required deployments may begin on the devices of a collection.
CREATE TABLE maintenance_window (
    collection_id INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
    name          TEXT NOT NULL COLLATE NOCASE,
    begins        TEXT NOT NULL,       -- a cron line; '': once
    once          INTEGER,             -- when, where it comes once
    minutes       INTEGER NOT NULL CHECK (minutes BETWEEN 1 AND 10080),
    zone          TEXT NOT NULL,       -- IANA
    PRIMARY KEY (collection_id, name)
) STRICT, WITHOUT ROWID;
