-- Task sequences offered to collections, the devices of the site, and how far each of them is.
CREATE TABLE deployment (
    deployment_id TEXT PRIMARY KEY,    -- XYZ20001
    number        INTEGER NOT NULL UNIQUE,
    sequence_id   TEXT NOT NULL REFERENCES sequence,
    collection_id INTEGER NOT NULL REFERENCES collection,
    purpose       TEXT NOT NULL CHECK (purpose IN ('available', 'required')),
    available     INTEGER NOT NULL,
    deadline      INTEGER,             -- of required ones
    expires       INTEGER,
    options       TEXT NOT NULL,       -- JSON
    package_id    TEXT,                -- filled for it; NULL: its content was there, or comes from peers and the cloud
    content       TEXT NOT NULL CHECK (content IN ('ready', 'pending', 'failed', 'none')),
    places        TEXT NOT NULL,       -- JSON: points and groups that the package is to be sent to
    problem       TEXT,                -- JSON: why its content is not there
    stopped       INTEGER,             -- not offered since
    created       INTEGER NOT NULL,
    created_by    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX deployment_by_sequence ON deployment (sequence_id);

CREATE TABLE phased (
    phased_id   INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE COLLATE NOCASE,
    sequence_id TEXT NOT NULL REFERENCES sequence,
    options     TEXT NOT NULL,         -- JSON: of each of its deployments
    plan        TEXT NOT NULL,         -- JSON: sync/src/deploying/phased.rs
    problem     TEXT,                  -- JSON: why a phase did not begin
    created     INTEGER NOT NULL,
    created_by  TEXT NOT NULL
) STRICT;

-- What a device says of itself.
CREATE TABLE device (
    name       TEXT PRIMARY KEY COLLATE NOCASE,
    facts      TEXT,                   -- JSON
    facts_at   INTEGER,
    address    TEXT,                   -- where it asked from last
    policy_at  INTEGER,                -- when it asked for its policy last
    replayed   INTEGER NOT NULL DEFAULT 0,   -- messages that came again
    refused    INTEGER NOT NULL DEFAULT 0    -- messages about nothing that it was told
) STRICT, WITHOUT ROWID;

-- How far the numbered messages of a device have been heard. A device that lost its state begins another series.
CREATE TABLE device_series (
    series_id INTEGER PRIMARY KEY AUTOINCREMENT,   -- a later one is a later beginning
    device    TEXT NOT NULL COLLATE NOCASE,
    series    TEXT NOT NULL,           -- UUID
    heard     INTEGER NOT NULL,        -- the highest number
    UNIQUE (device, series)
) STRICT;

CREATE TABLE device_message (
    device        TEXT NOT NULL COLLATE NOCASE,
    series_id     INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    at            INTEGER NOT NULL,    -- by the device's clock
    received      INTEGER NOT NULL,
    deployment_id TEXT NOT NULL,
    body          TEXT NOT NULL,       -- JSON, as it came
    PRIMARY KEY (device, series_id, number)
) STRICT, WITHOUT ROWID;

-- How far a device is with a deployment: what its messages come to.
CREATE TABLE device_run (
    device        TEXT NOT NULL COLLATE NOCASE,
    deployment_id TEXT NOT NULL REFERENCES deployment ON DELETE CASCADE,
    series_id     INTEGER NOT NULL,
    run           INTEGER NOT NULL,    -- which run of that series
    state         TEXT NOT NULL,
    step          INTEGER,             -- number of the step that it is at, or ended at
    step_name     TEXT,
    code          TEXT,                -- of an error: one of spsync
    exit          INTEGER,             -- the exit code of what failed
    details       TEXT NOT NULL,
    started       INTEGER NOT NULL,
    changed       INTEGER NOT NULL,
    bytes         TEXT NOT NULL,       -- JSON: bytes of this run by kind of source
    PRIMARY KEY (deployment_id, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_run_by_device ON device_run (device);

-- Content of OS upgrade packages and applications that deployments refer to: the site's own point serves it to devices.
CREATE VIEW deployed_content AS
    SELECT DISTINCT content.sha256, content.sha1, content.size, part.file_name
      FROM deployment AS d
      JOIN sequence_reference AS r ON r.sequence_id = d.sequence_id AND r.kind IN ('image', 'app')
      JOIN (SELECT image_id AS owner, file_name, content FROM image
            UNION ALL SELECT app_id, file_name, content FROM app_file) AS part ON part.owner = r.target
      JOIN content ON content.sha256 = part.content;
