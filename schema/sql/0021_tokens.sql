-- Who may use the admin API over HTTP. Secrets are 32 random bytes; only their SHA-256 is kept.
CREATE TABLE admin_token (
    admin_token_id INTEGER PRIMARY KEY,
    name    TEXT NOT NULL COLLATE NOCASE,
    hash    BLOB NOT NULL UNIQUE,
    role    TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    revoked INTEGER
) STRICT;
CREATE UNIQUE INDEX admin_token_in_force ON admin_token (name) WHERE revoked IS NULL;
