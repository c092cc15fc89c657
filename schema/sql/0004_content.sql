-- Verified bytes in the content library.
CREATE TABLE content (
    sha256    BLOB PRIMARY KEY CHECK (length(sha256) = 32),
    sha1      BLOB NOT NULL CHECK (length(sha1) = 20),
    size      INTEGER NOT NULL,
    sha1_only INTEGER NOT NULL,        -- only a SHA-1 was published: the check was weaker
    stored_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX content_by_sha1 ON content (sha1);

CREATE TABLE package (
    package_id  TEXT PRIMARY KEY,      -- XYZ00001
    sequence    INTEGER NOT NULL UNIQUE,
    name        TEXT NOT NULL UNIQUE COLLATE NOCASE,
    description TEXT NOT NULL,
    source_dir  TEXT UNIQUE,
    version     INTEGER NOT NULL,      -- one more on each change of what it holds
    created     INTEGER NOT NULL,
    changed     INTEGER NOT NULL,
    validated   INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE package_file (
    package_id TEXT NOT NULL REFERENCES package ON DELETE CASCADE,
    update_id  BLOB NOT NULL,
    number     INTEGER NOT NULL,
    file_id    INTEGER NOT NULL REFERENCES file,
    file_name  TEXT NOT NULL COLLATE NOCASE,  -- unique in the package: a second digest of one name gets a suffix
    state      TEXT NOT NULL CHECK (state IN ('queued', 'stored', 'failed')),
    problem    TEXT,                   -- JSON: why it failed
    at         INTEGER NOT NULL,
    PRIMARY KEY (package_id, update_id, number),
    UNIQUE (package_id, file_name),
    FOREIGN KEY (update_id, number) REFERENCES revision (update_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX package_file_by_file ON package_file (file_id);

CREATE TABLE point (
    point_id INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE COLLATE NOCASE
) STRICT;
INSERT INTO point (point_id, name) VALUES (1, 'site');

CREATE TABLE distribution (
    package_id TEXT NOT NULL REFERENCES package ON DELETE CASCADE,
    point_id   INTEGER NOT NULL REFERENCES point ON DELETE CASCADE,
    version    INTEGER NOT NULL,       -- of the package, when it was distributed
    at         INTEGER NOT NULL,
    PRIMARY KEY (package_id, point_id)
) STRICT, WITHOUT ROWID;

-- What exactly was distributed: a later change of the package is not served before it is distributed too.
CREATE TABLE distributed_file (
    package_id TEXT NOT NULL,
    point_id   INTEGER NOT NULL,
    file_name  TEXT NOT NULL COLLATE NOCASE,
    content    BLOB NOT NULL REFERENCES content (sha256) ON DELETE CASCADE,
    PRIMARY KEY (package_id, point_id, file_name),
    FOREIGN KEY (package_id, point_id) REFERENCES distribution ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX distributed_file_by_content ON distributed_file (content);
