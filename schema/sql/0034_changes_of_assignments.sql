-- How often something was changed of which assignments of points are made (schema/src/assigned.rs). Numbers only grow; who made an
-- assignment and finds the same numbers again need not make it anew. They are moved here, by whoever writes, so that no writer can
-- forget it; a test compares the columns that are read with those that move a number.
CREATE TABLE assignment_change (
    what   TEXT PRIMARY KEY CHECK (what IN (
        'any',        -- assignments of any point
        'sources',    -- those of points that pull from others
        'privacy',    -- which contents are private
        'keys')),     -- the content keys of devices
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO assignment_change VALUES ('any', 0), ('sources', 0), ('privacy', 0), ('keys', 0);

-- The same of one point. A row stays when its point is gone: another point of that number must not find a number of before.
CREATE TABLE point_change (
    point_id INTEGER PRIMARY KEY,
    number   INTEGER NOT NULL
) STRICT;
INSERT INTO point_change SELECT point_id, 0 FROM point;

-- Which points are to have a content, or still have it.
CREATE VIEW content_on_points AS
    SELECT content, point_id FROM distributed_file
    UNION ALL
    SELECT content, point_id FROM leaving_file;

-- Which packages have a content, wherever: that alone, and for whom they are, decides whether it is private.
CREATE VIEW content_in_packages AS
    SELECT content, package_id FROM distributed_file
    UNION ALL
    SELECT content, package_id FROM leaving_file
    UNION ALL
    SELECT content, package_id FROM lost_file
    UNION ALL
    SELECT file.content, m.package_id FROM file CROSS JOIN package_file AS m ON m.file_id = file.file_id;

-- What is set for points. That of one bears on those that pull from it, by way of others too.
CREATE TRIGGER point_comes AFTER INSERT ON point BEGIN
    INSERT INTO point_change VALUES (NEW.point_id, 1) ON CONFLICT DO UPDATE SET number = number + 1;
    UPDATE assignment_change SET number = number + 1 WHERE what = 'sources';
END;
CREATE TRIGGER point_goes AFTER DELETE ON point BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id = OLD.point_id;
    UPDATE assignment_change SET number = number + 1 WHERE what = 'sources';
END;
CREATE TRIGGER point_changes AFTER UPDATE OF point_id, name, role, url, tls_url, maintenance, rate, schedule ON point
WHEN (OLD.point_id, OLD.name, OLD.role, OLD.url, OLD.tls_url, OLD.maintenance, OLD.rate, OLD.schedule)
    IS NOT (NEW.point_id, NEW.name, NEW.role, NEW.url, NEW.tls_url, NEW.maintenance, NEW.rate, NEW.schedule) BEGIN
    INSERT INTO point_change VALUES (NEW.point_id, 1) ON CONFLICT DO UPDATE SET number = number + 1;
    UPDATE point_change SET number = number + 1 WHERE point_id = OLD.point_id;
    UPDATE assignment_change SET number = number + 1 WHERE what = 'sources';
END;
CREATE TRIGGER pull_source_comes AFTER INSERT ON pull_source BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id = NEW.point_id;
    UPDATE assignment_change SET number = number + 1 WHERE what = 'sources';
END;
CREATE TRIGGER pull_source_goes AFTER DELETE ON pull_source BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id = OLD.point_id;
    UPDATE assignment_change SET number = number + 1 WHERE what = 'sources';
END;
CREATE TRIGGER pull_source_changes AFTER UPDATE ON pull_source BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id IN (OLD.point_id, NEW.point_id);
    UPDATE assignment_change SET number = number + 1 WHERE what = 'sources';
END;

-- Keys: of points, without which nobody is sent there, and of devices, which open private content.
CREATE TRIGGER principal_comes AFTER INSERT ON principal BEGIN
    UPDATE assignment_change SET number = number + 1
     WHERE (what = 'sources' AND NEW.kind = 'point') OR (what = 'keys' AND NEW.content_hash IS NOT NULL);
END;
CREATE TRIGGER principal_goes AFTER DELETE ON principal BEGIN
    UPDATE assignment_change SET number = number + 1
     WHERE (what = 'sources' AND OLD.kind = 'point') OR (what = 'keys' AND OLD.content_hash IS NOT NULL);
END;
CREATE TRIGGER principal_changes AFTER UPDATE OF kind, name, content_hash, revoked ON principal BEGIN
    UPDATE assignment_change SET number = number + 1
     WHERE (what = 'sources' AND 'point' IN (OLD.kind, NEW.kind))
        OR (what = 'keys' AND coalesce(OLD.content_hash, NEW.content_hash) IS NOT NULL);
END;

-- Packages, and for whom they are: seldom enough that all is made anew.
CREATE TRIGGER package_comes AFTER INSERT ON package BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what IN ('any', 'privacy');
END;
CREATE TRIGGER package_goes AFTER DELETE ON package BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what IN ('any', 'privacy');
END;
CREATE TRIGGER package_changes AFTER UPDATE OF package_id, name, access ON package BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what IN ('any', 'privacy');
END;
CREATE TRIGGER image_comes AFTER INSERT ON image BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what = 'any';
END;
CREATE TRIGGER image_goes AFTER DELETE ON image BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what = 'any';
END;
CREATE TRIGGER image_changes AFTER UPDATE OF image_id, name ON image BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what = 'any';
END;
CREATE TRIGGER app_comes AFTER INSERT ON app BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what = 'any';
END;
CREATE TRIGGER app_goes AFTER DELETE ON app BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what = 'any';
END;
CREATE TRIGGER app_changes AFTER UPDATE OF app_id, name ON app BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what = 'any';
END;

-- Packages on points. How far one is on its way is no part of an assignment.
CREATE TRIGGER distribution_comes AFTER INSERT ON distribution BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id = NEW.point_id;
END;
CREATE TRIGGER distribution_goes AFTER DELETE ON distribution BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id = OLD.point_id;
END;
CREATE TRIGGER distribution_changes AFTER UPDATE OF package_id, point_id, version, state, work, work_order ON distribution
WHEN (OLD.package_id, OLD.point_id, OLD.version, OLD.work, OLD.work_order, OLD.state = 'removing', OLD.state = 'cancelled')
    IS NOT (NEW.package_id, NEW.point_id, NEW.version, NEW.work, NEW.work_order, NEW.state = 'removing', NEW.state = 'cancelled') BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id IN (OLD.point_id, NEW.point_id);
END;

-- Files on points. The first row of a package that has a content, and the last, may make it public or private wherever else it is.
CREATE TRIGGER distributed_file_comes AFTER INSERT ON distributed_file BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id = NEW.point_id;
END;
CREATE TRIGGER distributed_file_is_first AFTER INSERT ON distributed_file
WHEN (SELECT count(*) FROM (SELECT 1 FROM content_in_packages AS has
                             WHERE has.content = NEW.content AND has.package_id = NEW.package_id LIMIT 2)) < 2 BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held WHERE held.content = NEW.content);
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER distributed_file_goes AFTER DELETE ON distributed_file BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id = OLD.point_id;
END;
CREATE TRIGGER distributed_file_was_last AFTER DELETE ON distributed_file
WHEN NOT EXISTS (SELECT 1 FROM content_in_packages AS has
                  WHERE has.content = OLD.content AND has.package_id = OLD.package_id) BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held WHERE held.content = OLD.content);
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER distributed_file_changes AFTER UPDATE OF package_id, point_id, file_name, content, sha1, size ON distributed_file BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what IN ('any', 'privacy');
END;
CREATE TRIGGER leaving_file_comes AFTER INSERT ON leaving_file BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id = NEW.point_id;
END;
CREATE TRIGGER leaving_file_is_first AFTER INSERT ON leaving_file
WHEN (SELECT count(*) FROM (SELECT 1 FROM content_in_packages AS has
                             WHERE has.content = NEW.content AND has.package_id = NEW.package_id LIMIT 2)) < 2 BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held WHERE held.content = NEW.content);
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER leaving_file_goes AFTER DELETE ON leaving_file BEGIN
    UPDATE point_change SET number = number + 1 WHERE point_id = OLD.point_id;
END;
CREATE TRIGGER leaving_file_was_last AFTER DELETE ON leaving_file
WHEN NOT EXISTS (SELECT 1 FROM content_in_packages AS has
                  WHERE has.content = OLD.content AND has.package_id = OLD.package_id) BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held WHERE held.content = OLD.content);
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER leaving_file_changes AFTER UPDATE OF package_id, point_id, file_name, content, sha1, size ON leaving_file BEGIN
    UPDATE assignment_change SET number = number + 1 WHERE what IN ('any', 'privacy');
END;

-- What else says which packages have a content. Most of it is on no point, and moves nothing there.
CREATE TRIGGER lost_file_comes AFTER INSERT ON lost_file BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held WHERE held.content = NEW.content);
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER lost_file_goes AFTER DELETE ON lost_file BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held WHERE held.content = OLD.content);
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER lost_file_changes AFTER UPDATE OF package_id, content ON lost_file BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held WHERE held.content IN (OLD.content, NEW.content));
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER package_file_comes AFTER INSERT ON package_file BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held
                         WHERE held.content = (SELECT file.content FROM file WHERE file.file_id = NEW.file_id));
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER package_file_goes AFTER DELETE ON package_file BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held
                         WHERE held.content = (SELECT file.content FROM file WHERE file.file_id = OLD.file_id));
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER package_file_changes AFTER UPDATE OF package_id, file_id ON package_file BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held
                         WHERE held.content IN (SELECT file.content FROM file WHERE file.file_id IN (OLD.file_id, NEW.file_id)));
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER file_comes AFTER INSERT ON file WHEN NEW.content IS NOT NULL BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held WHERE held.content = NEW.content);
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER file_goes AFTER DELETE ON file WHEN OLD.content IS NOT NULL BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held WHERE held.content = OLD.content);
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
CREATE TRIGGER file_changes AFTER UPDATE OF file_id, content ON file
WHEN (OLD.file_id, OLD.content) IS NOT (NEW.file_id, NEW.content) BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held WHERE held.content IN (OLD.content, NEW.content));
    UPDATE assignment_change SET number = number + 1 WHERE what = 'privacy';
END;
