-- Files that downstream servers asked for and that were not content then.
CREATE TABLE wanted_file (
    sha1      BLOB PRIMARY KEY CHECK (length(sha1) = 20),
    asked_by  TEXT NOT NULL,           -- name of the server that asked last, as it calls itself
    asked     INTEGER NOT NULL,        -- how often
    first_at  INTEGER NOT NULL,
    latest_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
