-- On a point's own machine: content of a package that its site names no more, without having said that it is to go: a site that
-- was restored from a backup, or set up anew, knows nothing of it. It is served on for a while.
CREATE TABLE unnamed_content (
    sha256     BLOB PRIMARY KEY REFERENCES content ON DELETE CASCADE,
    package_id TEXT NOT NULL,          -- of which it was
    file_name  TEXT NOT NULL,
    private    INTEGER NOT NULL,
    since      INTEGER NOT NULL        -- since when it is not named
) STRICT, WITHOUT ROWID;
