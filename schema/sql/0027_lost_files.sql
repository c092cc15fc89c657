-- What the site's own point served, and lacks at present because its copy was bad. It is served again when it is there again, and a
-- point that fetched it keeps its own copy meanwhile. A package that is withdrawn has lost nothing.
CREATE TABLE lost_file (
    package_id TEXT NOT NULL REFERENCES package ON DELETE CASCADE,
    point_id   INTEGER NOT NULL REFERENCES point ON DELETE CASCADE,
    file_name  TEXT NOT NULL COLLATE NOCASE,
    content    BLOB NOT NULL,
    sha1       BLOB NOT NULL,
    size       INTEGER NOT NULL,
    PRIMARY KEY (package_id, point_id, file_name)
) STRICT, WITHOUT ROWID;
CREATE INDEX lost_file_by_content ON lost_file (content);

-- On a distribution point's own machine: until when its clock was seen to go on.
CREATE TABLE seen_time (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    at   INTEGER NOT NULL
) STRICT;
