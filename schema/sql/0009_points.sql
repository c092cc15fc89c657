-- Distribution points on other machines, and how far each distribution is.
ALTER TABLE point ADD COLUMN role TEXT NOT NULL DEFAULT 'site' CHECK (role IN ('site', 'standard', 'pull'));
ALTER TABLE point ADD COLUMN url TEXT NOT NULL DEFAULT '';       -- where clients reach it; '' for the site's own: [server] public_url
ALTER TABLE point ADD COLUMN maintenance INTEGER NOT NULL DEFAULT 0;
ALTER TABLE point ADD COLUMN last_seen INTEGER;

ALTER TABLE distribution ADD COLUMN state TEXT NOT NULL DEFAULT 'success'
    CHECK (state IN ('queued', 'sending', 'verifying', 'success', 'failed', 'cancelled', 'validating', 'warning', 'removing'));

-- Which point has which content, verified: what locations are made of.
CREATE VIEW held_content AS
    SELECT f.content, f.point_id, max(d.at) AS since
      FROM distributed_file AS f JOIN distribution AS d USING (package_id, point_id)
     WHERE d.state IN ('success', 'validating', 'warning')
     GROUP BY f.content, f.point_id;
