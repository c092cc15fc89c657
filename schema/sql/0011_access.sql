-- For whom packages are. Content that any public package has is public; content of private packages alone is private.
ALTER TABLE package ADD COLUMN access TEXT NOT NULL DEFAULT 'public' CHECK (access IN ('public', 'private'));

CREATE VIEW private_content AS
    SELECT content FROM (
        SELECT f.content, p.access
          FROM distributed_file AS f JOIN package AS p USING (package_id)
        UNION ALL
        SELECT file.content, p.access
          FROM package_file AS m JOIN file USING (file_id) JOIN package AS p USING (package_id)
         WHERE file.content IS NOT NULL
    ) GROUP BY content HAVING max(access = 'public') = 0;
