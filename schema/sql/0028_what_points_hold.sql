-- What a point has, verified, whatever else is on its way to it. Until now that followed from the state of the whole package, so
-- that a point had nothing of it as soon as another version, or the same one again, was to be sent.
ALTER TABLE distributed_file ADD COLUMN held INTEGER;   -- since when it is there; NULL: it is not
UPDATE distributed_file SET held = (
    SELECT d.at FROM distribution AS d
     WHERE d.package_id = distributed_file.package_id AND d.point_id = distributed_file.point_id
       AND d.state IN ('success', 'validating', 'warning'));

-- Files that a point has of an earlier version and that the present one lacks: they stay, and are served, until the present one
-- is there whole.
CREATE TABLE leaving_file (
    package_id TEXT NOT NULL,
    point_id   INTEGER NOT NULL,
    content    BLOB NOT NULL,
    file_name  TEXT NOT NULL COLLATE NOCASE,
    sha1       BLOB NOT NULL,
    size       INTEGER NOT NULL,
    held       INTEGER NOT NULL,
    PRIMARY KEY (package_id, point_id, content),
    FOREIGN KEY (package_id, point_id) REFERENCES distribution ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX leaving_file_by_content ON leaving_file (content);

-- Which point has which content, verified: what locations are made of.
DROP VIEW held_content;
CREATE VIEW held_content AS
    SELECT content, point_id, min(held) AS since, min(file_name) AS file_name, max(sha1) AS sha1, max(size) AS size
      FROM (SELECT content, point_id, held, file_name, sha1, size FROM distributed_file WHERE held IS NOT NULL
            UNION ALL
            SELECT content, point_id, held, file_name, sha1, size FROM leaving_file)
     GROUP BY content, point_id;

-- What leaves is as private as it was.
DROP VIEW private_content;
CREATE VIEW private_content AS
    SELECT content FROM (
        SELECT f.content, p.access
          FROM distributed_file AS f JOIN package AS p USING (package_id)
        UNION ALL
        SELECT f.content, p.access
          FROM leaving_file AS f JOIN package AS p USING (package_id)
        UNION ALL
        SELECT l.content, p.access
          FROM lost_file AS l JOIN package AS p USING (package_id)
        UNION ALL
        SELECT file.content, p.access
          FROM package_file AS m JOIN file USING (file_id) JOIN package AS p USING (package_id)
         WHERE file.content IS NOT NULL
    ) GROUP BY content HAVING max(access = 'public') = 0;
