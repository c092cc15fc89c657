-- A foreign document as one location served it at one time.
CREATE TABLE document (
    document_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    source        TEXT NOT NULL,       -- name of the configured source
    location      TEXT NOT NULL,       -- URL or file
    sha256        BLOB NOT NULL CHECK (length(sha256) = 32),
    size          INTEGER NOT NULL,    -- bytes, as it came
    version       TEXT NOT NULL,       -- what the document calls its version
    fetched_at    INTEGER NOT NULL,
    etag          TEXT,
    last_modified TEXT
) STRICT;
CREATE INDEX document_by_location ON document (source, location, document_id);

CREATE TABLE document_body (
    document_id INTEGER PRIMARY KEY REFERENCES document ON DELETE CASCADE,
    zlib        BLOB NOT NULL          -- the exact bytes, compressed
) STRICT;

-- An update across its revisions.
CREATE TABLE update_item (
    update_id  BLOB PRIMARY KEY CHECK (length(update_id) = 16),
    latest     INTEGER NOT NULL,       -- revision number with the highest build
    declined   INTEGER NOT NULL DEFAULT 0,
    held       INTEGER NOT NULL DEFAULT 0,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One file that upstreams publish, whoever names it.
CREATE TABLE file (
    file_id   INTEGER PRIMARY KEY,
    file_name TEXT NOT NULL,
    size      INTEGER NOT NULL,
    sha1      BLOB CHECK (length(sha1) = 20),
    sha256    BLOB CHECK (length(sha256) = 32),
    content   BLOB REFERENCES content (sha256) ON DELETE SET NULL,  -- verified bytes, once we have them
    CHECK (sha1 IS NOT NULL OR sha256 IS NOT NULL)
) STRICT;
CREATE INDEX file_by_sha1 ON file (sha1);
CREATE INDEX file_by_sha256 ON file (sha256);
CREATE INDEX file_by_content ON file (content);

-- Where a file can be had.
CREATE TABLE file_url (
    file_id INTEGER NOT NULL REFERENCES file ON DELETE CASCADE,
    source  TEXT NOT NULL,
    url     TEXT NOT NULL,
    PRIMARY KEY (file_id, source, url)
) STRICT, WITHOUT ROWID;

-- One published state of an update.
CREATE TABLE revision (
    update_id        BLOB NOT NULL REFERENCES update_item ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    number           INTEGER NOT NULL,
    title            TEXT NOT NULL,
    classification   TEXT NOT NULL,
    product          TEXT,             -- NULL: the name of the file is not recognised
    release          TEXT,
    build_major      INTEGER,
    build_minor      INTEGER,
    build_stamp      TEXT,
    edition_group    TEXT,
    editions         TEXT NOT NULL,    -- JSON list, sorted
    architecture     TEXT NOT NULL,
    language         TEXT NOT NULL,
    file_id          INTEGER NOT NULL REFERENCES file,
    encrypted        INTEGER NOT NULL,
    license_required INTEGER NOT NULL,
    first_seen       INTEGER NOT NULL,
    PRIMARY KEY (update_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX revision_by_file ON revision (file_id);

-- Which revisions the newest document of a location lists.
CREATE TABLE listing (
    source    TEXT NOT NULL,
    location  TEXT NOT NULL,
    update_id BLOB NOT NULL,
    number    INTEGER NOT NULL,
    PRIMARY KEY (source, location, update_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX listing_by_update ON listing (update_id, number);
