-- The software library: task sequences and what they refer to. Their ids come from the counter of packages.
CREATE TABLE sequence (
    sequence_id TEXT PRIMARY KEY,      -- XYZ0004D
    number      INTEGER NOT NULL UNIQUE,
    name        TEXT NOT NULL UNIQUE COLLATE NOCASE,
    document    TEXT NOT NULL,         -- TOML, at most 2 MiB; the only form
    enabled     INTEGER NOT NULL,
    revision    INTEGER NOT NULL,      -- one more on each change of the document
    created     INTEGER NOT NULL,
    changed     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Taken from the document whenever it is saved, for the question who uses something.
CREATE TABLE sequence_reference (
    sequence_id TEXT NOT NULL REFERENCES sequence ON DELETE CASCADE,
    step        INTEGER NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('feature-update', 'image', 'app')),
    target      TEXT NOT NULL,
    PRIMARY KEY (sequence_id, step, kind, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX sequence_reference_by_target ON sequence_reference (target);

-- Product keys and hidden values, sealed by a key that is not in this database.
CREATE TABLE sequence_secret (
    sequence_id TEXT NOT NULL REFERENCES sequence ON DELETE CASCADE,
    number      INTEGER NOT NULL,      -- `sealed-1` in the document
    label       TEXT NOT NULL,         -- what may be told of it: GVLK, MAK/other, encoded, hidden
    sealed      BLOB NOT NULL,
    PRIMARY KEY (sequence_id, number)
) STRICT, WITHOUT ROWID;

-- OS upgrade packages.
CREATE TABLE image (
    image_id  TEXT PRIMARY KEY,
    number    INTEGER NOT NULL UNIQUE,
    name      TEXT NOT NULL UNIQUE COLLATE NOCASE,
    version   TEXT NOT NULL,           -- free text
    file_name TEXT NOT NULL,
    content   BLOB NOT NULL,             -- in `content`, unless it was damaged and set aside
    size      INTEGER NOT NULL,
    info      TEXT NOT NULL,           -- JSON: what our reader found in it
    created   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX image_by_content ON image (content);

CREATE TABLE app (
    app_id   TEXT PRIMARY KEY,
    number   INTEGER NOT NULL UNIQUE,
    name     TEXT NOT NULL UNIQUE COLLATE NOCASE,
    form     TEXT NOT NULL,            -- JSON: the form as it was given
    retired  INTEGER NOT NULL,
    created  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE app_file (
    app_id    TEXT NOT NULL REFERENCES app ON DELETE CASCADE,
    file_name TEXT NOT NULL COLLATE NOCASE,
    content   BLOB NOT NULL,             -- in `content`, unless it was damaged and set aside
    size      INTEGER NOT NULL,
    PRIMARY KEY (app_id, file_name)
) STRICT, WITHOUT ROWID;
CREATE INDEX app_file_by_content ON app_file (content);

-- Sets of devices, known by their names.
CREATE TABLE collection (
    collection_id INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE COLLATE NOCASE,
    built_in      INTEGER NOT NULL,    -- every device is in it; nobody changes it
    created       INTEGER NOT NULL
) STRICT;
INSERT INTO collection (name, built_in, created) VALUES ('All Systems', 1, 0);

CREATE TABLE collection_member (
    collection_id INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
    device        TEXT NOT NULL COLLATE NOCASE,
    PRIMARY KEY (collection_id, device)
) STRICT, WITHOUT ROWID;

-- Client settings: the lowest priority number wins; the default has none and loses to all.
CREATE TABLE client_settings (
    settings_id INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE COLLATE NOCASE,
    priority    INTEGER UNIQUE CHECK (priority BETWEEN 1 AND 9999),
    chosen      TEXT NOT NULL          -- JSON: only what is set here
) STRICT;
INSERT INTO client_settings (name, priority, chosen) VALUES ('default', NULL, '{}');

CREATE TABLE client_settings_target (
    settings_id   INTEGER NOT NULL REFERENCES client_settings ON DELETE CASCADE,
    collection_id INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
    PRIMARY KEY (settings_id, collection_id)
) STRICT, WITHOUT ROWID;
