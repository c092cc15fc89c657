-- Update documents, as server-sync and exports bring them: categories, detectoids, updates. The exact bytes stand apart.
CREATE TABLE metadata (
    metadata_id       INTEGER PRIMARY KEY,
    update_id         BLOB NOT NULL CHECK (length(update_id) = 16),
    number            INTEGER NOT NULL,
    kind              TEXT NOT NULL CHECK (kind IN ('software', 'driver', 'category', 'detectoid', 'other')),
    category_type     TEXT,            -- Company, ProductFamily, Product, UpdateClassification, …
    title             TEXT NOT NULL,   -- in English, or in the first language there is
    sha256            BLOB NOT NULL CHECK (length(sha256) = 32),  -- of the document
    size              INTEGER NOT NULL,                           -- of the document, bytes
    created           INTEGER,
    publication_state TEXT NOT NULL,   -- Published, Expired
    deployable        INTEGER NOT NULL,
    handler           TEXT,            -- name of the handler's type
    license           BLOB,            -- EulaID
    seen              INTEGER NOT NULL,
    UNIQUE (update_id, number)
) STRICT;
CREATE INDEX metadata_by_kind ON metadata (kind, category_type);

CREATE TABLE metadata_document (
    metadata_id INTEGER PRIMARY KEY REFERENCES metadata ON DELETE CASCADE,
    zlib        BLOB NOT NULL          -- the document as it came, compressed
) STRICT;

-- What one revision says about other updates. Targets may be unknown: metadata arrives in any order.
CREATE TABLE metadata_relation (
    metadata_id INTEGER NOT NULL REFERENCES metadata ON DELETE CASCADE,
    relation    TEXT NOT NULL CHECK (relation IN ('category', 'prerequisite', 'bundle', 'supersedes')),
    clause      INTEGER NOT NULL,      -- targets of one clause are alternatives
    target      BLOB NOT NULL CHECK (length(target) = 16),
    number      INTEGER NOT NULL,      -- of the target's revision; 0 where any is meant
    PRIMARY KEY (metadata_id, relation, clause, target, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX metadata_relation_by_target ON metadata_relation (target, relation);

-- Files of a revision, with every digest that is published.
CREATE TABLE metadata_file (
    metadata_id INTEGER NOT NULL REFERENCES metadata ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    file_name   TEXT NOT NULL,         -- as a label: foreign text
    size        INTEGER NOT NULL,
    sha1        BLOB CHECK (length(sha1) = 20),
    sha256      BLOB CHECK (length(sha256) = 32),
    PRIMARY KEY (metadata_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX metadata_file_by_sha1 ON metadata_file (sha1);
