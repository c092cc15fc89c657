-- Who gave a document first, and where its files are.
ALTER TABLE metadata ADD COLUMN source TEXT NOT NULL DEFAULT 'import';

CREATE TABLE metadata_url (
    sha1   BLOB NOT NULL CHECK (length(sha1) = 20),
    source TEXT NOT NULL,
    url    TEXT NOT NULL,
    PRIMARY KEY (sha1, source, url)
) STRICT, WITHOUT ROWID;
