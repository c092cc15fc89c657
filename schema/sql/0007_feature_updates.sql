-- Who gave a document first, and where its files are.
ALTER TABLE metadata ADD COLUMN source TEXT NOT NULL DEFAULT 'import';

CREATE TABLE metadata_url (
    sha1   BLOB NOT NULL CHECK (length(sha1) = 20),
    source TEXT NOT NULL,
    url    TEXT NOT NULL,
    PRIMARY KEY (sha1, source, url)
) STRICT, WITHOUT ROWID;

-- Documents of feature updates that were turned into rows of `revision`. A row goes when its update is to be looked at again.
CREATE TABLE metadata_offered (
    metadata_id INTEGER PRIMARY KEY REFERENCES metadata ON DELETE CASCADE,
    missing     INTEGER NOT NULL       -- bundled revisions that are not known yet
) STRICT;

-- A revision has any number of files now, and says more. Made anew, because SQLite cannot take a column's NOT NULL away.
CREATE TABLE new_revision (
    update_id        BLOB NOT NULL REFERENCES update_item ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    number           INTEGER NOT NULL,
    title            TEXT NOT NULL,
    classification   TEXT NOT NULL,
    product          TEXT,             -- Windows 10, Windows 11; NULL: nothing says it
    products         TEXT NOT NULL,    -- JSON list: names of the products that the upstream files it under
    release          TEXT,
    build_major      INTEGER,
    build_minor      INTEGER,
    build_stamp      TEXT,
    edition_group    TEXT,
    editions         TEXT NOT NULL,    -- JSON list, sorted
    architecture     TEXT NOT NULL,
    language         TEXT NOT NULL,    -- '*': every language
    shape            TEXT NOT NULL CHECK (shape IN ('esd', 'enablement', 'file-set')),
    told_by          TEXT NOT NULL CHECK (told_by IN ('file name', 'title', 'nothing')),  -- what release and edition were read from
    bases            TEXT NOT NULL,    -- JSON list: releases that an enablement package applies to
    size             INTEGER NOT NULL, -- bytes of all its files
    encrypted        INTEGER NOT NULL,
    license_required INTEGER NOT NULL,
    license_key      TEXT,             -- what decisions about its terms are filed under: a product, or eula:GUID
    created          INTEGER,          -- when it was published, as its document says
    expired          INTEGER NOT NULL, -- its publisher has withdrawn it
    missing          INTEGER NOT NULL, -- bundled revisions or digests that are not known yet
    first_seen       INTEGER NOT NULL,
    PRIMARY KEY (update_id, number)
) STRICT, WITHOUT ROWID;
INSERT INTO new_revision
SELECT revision.update_id, number, title, classification, product, json_array(product), release, build_major, build_minor,
       build_stamp, edition_group, editions, architecture, language, 'esd',
       CASE WHEN product IS NULL THEN 'nothing' ELSE 'file name' END, '[]', file.size, encrypted, license_required, product,
       NULL, 0, 0, first_seen
  FROM revision JOIN file USING (file_id);

CREATE TABLE revision_file (
    update_id BLOB NOT NULL,
    number    INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    file_id   INTEGER NOT NULL REFERENCES file,
    file_name TEXT NOT NULL,           -- as this upstream calls it
    PRIMARY KEY (update_id, number, position),
    FOREIGN KEY (update_id, number) REFERENCES new_revision (update_id, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX revision_file_by_file ON revision_file (file_id);
INSERT INTO revision_file
SELECT update_id, number, 0, file_id, file.file_name FROM revision JOIN file USING (file_id);

-- Licence texts that a document names, by language; the bytes are checked like any other content.
CREATE TABLE revision_license (
    update_id BLOB NOT NULL,
    number    INTEGER NOT NULL,
    language  TEXT NOT NULL,
    size      INTEGER NOT NULL,
    sha1      BLOB CHECK (length(sha1) = 20),
    sha256    BLOB CHECK (length(sha256) = 32),
    PRIMARY KEY (update_id, number, language),
    FOREIGN KEY (update_id, number) REFERENCES new_revision (update_id, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE new_package_file (
    package_id TEXT NOT NULL REFERENCES package ON DELETE CASCADE,
    update_id  BLOB NOT NULL,
    number     INTEGER NOT NULL,
    file_id    INTEGER NOT NULL REFERENCES file,
    file_name  TEXT NOT NULL COLLATE NOCASE,  -- one name, one content: another digest under a taken name gets a suffix
    state      TEXT NOT NULL CHECK (state IN ('queued', 'stored', 'failed')),
    problem    TEXT,                   -- JSON: why it failed
    at         INTEGER NOT NULL,
    PRIMARY KEY (package_id, update_id, number, file_id),
    FOREIGN KEY (update_id, number) REFERENCES new_revision (update_id, number)
) STRICT, WITHOUT ROWID;
INSERT INTO new_package_file
SELECT package_id, update_id, number, file_id, file_name, state, problem, at FROM package_file;
DROP TABLE package_file;
DROP TABLE revision;
ALTER TABLE new_revision RENAME TO revision;
ALTER TABLE new_package_file RENAME TO package_file;
CREATE INDEX package_file_by_file ON package_file (file_id);
CREATE INDEX package_file_by_name ON package_file (package_id, file_name);

-- What a rule of supersedence expired, and when; by hand nothing is ever expired.
ALTER TABLE update_item ADD COLUMN expired_at INTEGER;
-- Updates that a server's catalog names keep their real revision numbers; those of ESD catalogs are numbered by us.
ALTER TABLE update_item ADD COLUMN numbered_by TEXT NOT NULL DEFAULT 'us' CHECK (numbered_by IN ('us', 'upstream'));

-- Licence texts that a document names, by language.
CREATE TABLE metadata_license (
    metadata_id INTEGER NOT NULL REFERENCES metadata ON DELETE CASCADE,
    language    TEXT NOT NULL,
    file_name   TEXT NOT NULL,         -- as a label: foreign text
    size        INTEGER NOT NULL,
    sha1        BLOB CHECK (length(sha1) = 20),
    sha256      BLOB CHECK (length(sha256) = 32),
    PRIMARY KEY (metadata_id, language)
) STRICT, WITHOUT ROWID;
CREATE INDEX metadata_license_by_sha1 ON metadata_license (sha1);
