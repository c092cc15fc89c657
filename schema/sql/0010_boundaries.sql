-- Where clients are, and which distribution points they may ask.
CREATE TABLE boundary (
    boundary_id INTEGER PRIMARY KEY,
    kind        TEXT NOT NULL CHECK (kind IN ('subnet', 'range', 'ipv6-prefix')),
    value       TEXT NOT NULL UNIQUE,  -- 10.20.4.0/24, 10.0.0.1-10.0.0.9, 2001:db8::/32
    name        TEXT NOT NULL,         -- for people
    created     INTEGER NOT NULL
) STRICT;

CREATE TABLE boundary_group (
    boundary_group_id INTEGER PRIMARY KEY,
    name              TEXT NOT NULL UNIQUE COLLATE NOCASE,
    peers             INTEGER NOT NULL DEFAULT 1,  -- clients may take content from each other
    same_subnet_peers INTEGER NOT NULL DEFAULT 0,  -- and only within their subnet
    prefer_points     INTEGER NOT NULL DEFAULT 0,  -- points of the subnet before peers of it
    prefer_cloud      INTEGER NOT NULL DEFAULT 0,  -- the cloud before points
    cloud             INTEGER NOT NULL DEFAULT 1,  -- the cloud at all
    created           INTEGER NOT NULL
) STRICT;
-- Of everybody whom no boundary puts elsewhere. It gets the site's code when the site is opened.
INSERT INTO boundary_group (boundary_group_id, name, created) VALUES (1, 'Default-Site-Boundary-Group', 0);

CREATE TABLE boundary_group_boundary (
    boundary_group_id INTEGER NOT NULL REFERENCES boundary_group ON DELETE CASCADE,
    boundary_id       INTEGER NOT NULL REFERENCES boundary ON DELETE CASCADE,
    PRIMARY KEY (boundary_group_id, boundary_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX boundary_group_by_boundary ON boundary_group_boundary (boundary_id);

CREATE TABLE boundary_group_point (
    boundary_group_id INTEGER NOT NULL REFERENCES boundary_group ON DELETE CASCADE,
    point_id          INTEGER NOT NULL REFERENCES point ON DELETE CASCADE,
    PRIMARY KEY (boundary_group_id, point_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX boundary_group_by_point ON boundary_group_point (point_id);

CREATE TABLE boundary_relation (
    boundary_group_id INTEGER NOT NULL REFERENCES boundary_group ON DELETE CASCADE,
    neighbour         INTEGER NOT NULL REFERENCES boundary_group ON DELETE CASCADE,
    role              TEXT NOT NULL CHECK (role IN ('dp')),  -- each role has its own time
    minutes           INTEGER NOT NULL CHECK (minutes >= -1),  -- -1: never
    PRIMARY KEY (boundary_group_id, neighbour, role),
    CHECK (boundary_group_id <> neighbour)
) STRICT, WITHOUT ROWID;
