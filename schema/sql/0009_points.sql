-- Distribution points on other machines, and how far each distribution is.
ALTER TABLE point ADD COLUMN role TEXT NOT NULL DEFAULT 'site' CHECK (role IN ('site', 'standard', 'pull'));
ALTER TABLE point ADD COLUMN url TEXT NOT NULL DEFAULT '';       -- where clients reach it; '' for the site's own: [server] public_url
ALTER TABLE point ADD COLUMN maintenance INTEGER NOT NULL DEFAULT 0;
ALTER TABLE point ADD COLUMN last_seen INTEGER;

ALTER TABLE distribution ADD COLUMN state TEXT NOT NULL DEFAULT 'success'
    CHECK (state IN ('queued', 'sending', 'verifying', 'success', 'failed', 'cancelled', 'validating', 'warning', 'removing'));

-- What a point on another machine holds is not lost because the site has to fetch its own copy again: rows no longer end with
-- those of `content`, and say themselves what the file is.
CREATE TABLE new_distributed_file (
    package_id TEXT NOT NULL,
    point_id   INTEGER NOT NULL,
    file_name  TEXT NOT NULL COLLATE NOCASE,
    content    BLOB NOT NULL,
    sha1       BLOB NOT NULL,
    size       INTEGER NOT NULL,
    PRIMARY KEY (package_id, point_id, file_name),
    FOREIGN KEY (package_id, point_id) REFERENCES distribution ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
INSERT INTO new_distributed_file
    SELECT f.package_id, f.point_id, f.file_name, f.content, c.sha1, c.size
      FROM distributed_file AS f JOIN content AS c ON c.sha256 = f.content;
DROP TABLE distributed_file;
ALTER TABLE new_distributed_file RENAME TO distributed_file;
CREATE INDEX distributed_file_by_content ON distributed_file (content);

-- Which point has which content, verified: what locations are made of.
CREATE VIEW held_content AS
    SELECT f.content, f.point_id, max(d.at) AS since
      FROM distributed_file AS f JOIN distribution AS d USING (package_id, point_id)
     WHERE d.state IN ('success', 'validating', 'warning')
     GROUP BY f.content, f.point_id;
