-- Who may ask for more than content: one-time tokens, and the keys of points and devices. Secrets are 32 random bytes;
-- only their SHA-256 is kept.
CREATE TABLE enrolment (
    enrolment_id INTEGER PRIMARY KEY,
    hash     BLOB NOT NULL UNIQUE,     -- of the token
    kind     TEXT NOT NULL CHECK (kind IN ('point', 'device')),
    name     TEXT NOT NULL COLLATE NOCASE,
    created  INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    used     INTEGER,                  -- when; a used token works again only for the same key
    key_hash BLOB                      -- of the key that was enrolled with it
) STRICT;

CREATE TABLE principal (
    principal_id INTEGER PRIMARY KEY,
    kind      TEXT NOT NULL CHECK (kind IN ('point', 'device')),
    name      TEXT NOT NULL COLLATE NOCASE,
    hash      BLOB NOT NULL UNIQUE,    -- of its key
    instance  BLOB,                    -- which installation of it: two with one key are told apart by it
    created   INTEGER NOT NULL,
    last_seen INTEGER,
    revoked   INTEGER
) STRICT;
CREATE UNIQUE INDEX principal_in_force ON principal (kind, name) WHERE revoked IS NULL;

-- What an operator sets for a point, and what the point said last.
ALTER TABLE point ADD COLUMN rate INTEGER;                       -- bytes per second; NULL: no limit
ALTER TABLE point ADD COLUMN schedule TEXT NOT NULL DEFAULT '';  -- when content may be sent: sync/src/points/grid.rs
ALTER TABLE point ADD COLUMN free INTEGER;                       -- bytes that it may still fill
ALTER TABLE point ADD COLUMN program TEXT;                       -- version of its program

-- Which points a pull point asks before the site, in order.
CREATE TABLE pull_source (
    point_id  INTEGER NOT NULL REFERENCES point ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    source_id INTEGER NOT NULL REFERENCES point (point_id) ON DELETE CASCADE,
    PRIMARY KEY (point_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE point_group (
    group_id INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE COLLATE NOCASE
) STRICT;
CREATE TABLE point_group_member (
    group_id INTEGER NOT NULL REFERENCES point_group ON DELETE CASCADE,
    point_id INTEGER NOT NULL REFERENCES point ON DELETE CASCADE,
    PRIMARY KEY (group_id, point_id)
) STRICT, WITHOUT ROWID;
-- What was sent to the group: who joins later gets it too.
CREATE TABLE point_group_package (
    group_id   INTEGER NOT NULL REFERENCES point_group ON DELETE CASCADE,
    package_id TEXT NOT NULL REFERENCES package ON DELETE CASCADE,
    PRIMARY KEY (group_id, package_id)
) STRICT, WITHOUT ROWID;

-- The work that a point is asked to do for a package. A point repeats nothing that has the order it has done.
ALTER TABLE distribution ADD COLUMN work TEXT NOT NULL DEFAULT 'send'
    CHECK (work IN ('send', 'resend', 'validate', 'repair'));
ALTER TABLE distribution ADD COLUMN work_order INTEGER NOT NULL DEFAULT 0;
ALTER TABLE distribution ADD COLUMN retries_left INTEGER NOT NULL DEFAULT 0;
ALTER TABLE distribution ADD COLUMN next_retry INTEGER;
ALTER TABLE distribution ADD COLUMN done INTEGER NOT NULL DEFAULT 0;   -- bytes that are there
ALTER TABLE distribution ADD COLUMN problem TEXT;                      -- JSON: why it failed
ALTER TABLE distribution ADD COLUMN changed INTEGER;                   -- when its state did
CREATE INDEX distribution_by_retry ON distribution (next_retry) WHERE next_retry IS NOT NULL;
