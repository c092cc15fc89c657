-- Where licence terms are published.
CREATE TABLE license_link (
    source   TEXT NOT NULL,
    location TEXT NOT NULL,
    language TEXT NOT NULL,
    url      TEXT NOT NULL,
    PRIMARY KEY (source, location, language, url)
) STRICT, WITHOUT ROWID;

-- Texts that were fetched or supplied, by digest.
CREATE TABLE license_text (
    sha256     BLOB PRIMARY KEY CHECK (length(sha256) = 32),
    body       BLOB NOT NULL,
    fetched_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The text that stands for a product in a language now. Another one asks for another decision.
CREATE TABLE license_current (
    product  TEXT NOT NULL,
    language TEXT NOT NULL,
    sha256   BLOB NOT NULL REFERENCES license_text,
    origin   TEXT NOT NULL,            -- URL, or who supplied it
    since    INTEGER NOT NULL,
    PRIMARY KEY (product, language)
) STRICT, WITHOUT ROWID;

-- Who has seen which text.
CREATE TABLE license_review (
    sha256   BLOB NOT NULL REFERENCES license_text,
    product  TEXT NOT NULL,
    language TEXT NOT NULL,
    who      TEXT NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (sha256, product, language, who)
) STRICT, WITHOUT ROWID;

-- Decisions, kept for ever; the state is derived from them.
CREATE TABLE license_decision (
    decision_id INTEGER PRIMARY KEY AUTOINCREMENT,
    update_id   BLOB NOT NULL CHECK (length(update_id) = 16),
    product     TEXT NOT NULL,
    language    TEXT NOT NULL,
    sha256      BLOB CHECK (length(sha256) = 32),  -- NULL: declined without a text
    accepted    INTEGER NOT NULL,
    who         TEXT NOT NULL,
    how         TEXT NOT NULL CHECK (how IN ('by hand', 'by configuration')),
    at          INTEGER NOT NULL
) STRICT;
CREATE INDEX license_decision_by_text ON license_decision (product, language, sha256);
CREATE INDEX license_decision_by_update ON license_decision (update_id);
