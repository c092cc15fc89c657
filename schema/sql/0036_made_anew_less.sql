-- A package that is made, changed or taken away moves the numbers of those points alone that have something of it: of where it is to be,
-- by its name, and of where any of its contents is, by whether that is private. Until now it moved those of all.
DROP TRIGGER package_comes;
DROP TRIGGER package_goes;
DROP TRIGGER package_changes;
DROP TRIGGER image_comes;
DROP TRIGGER image_goes;
DROP TRIGGER image_changes;
DROP TRIGGER app_comes;
DROP TRIGGER app_goes;
DROP TRIGGER app_changes;

-- The same rows as in content_in_packages, for who asks by the package.
CREATE VIEW contents_of_packages AS
    SELECT package_id, content FROM distributed_file
    UNION ALL
    SELECT package_id, content FROM leaving_file
    UNION ALL
    SELECT package_id, content FROM lost_file
    UNION ALL
    SELECT m.package_id, file.content FROM package_file AS m CROSS JOIN file ON file.file_id = m.file_id
     WHERE file.content IS NOT NULL;

-- A package that has just been made has nothing, and one that is gone took its rows with it, which have moved the numbers.
CREATE TRIGGER package_comes AFTER INSERT ON package BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT d.point_id FROM distribution AS d WHERE d.package_id = NEW.package_id);
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held
                         WHERE held.content IN (SELECT of_it.content FROM contents_of_packages AS of_it
                                                 WHERE of_it.package_id = NEW.package_id));
    UPDATE assignment_change SET number = number + 1
     WHERE what = 'privacy'
       AND EXISTS (SELECT 1 FROM contents_of_packages AS of_it WHERE of_it.package_id = NEW.package_id);
END;
CREATE TRIGGER package_goes AFTER DELETE ON package BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT d.point_id FROM distribution AS d WHERE d.package_id = OLD.package_id);
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held
                         WHERE held.content IN (SELECT of_it.content FROM contents_of_packages AS of_it
                                                 WHERE of_it.package_id = OLD.package_id));
    UPDATE assignment_change SET number = number + 1
     WHERE what = 'privacy'
       AND EXISTS (SELECT 1 FROM contents_of_packages AS of_it WHERE of_it.package_id = OLD.package_id);
END;
CREATE TRIGGER package_is_called AFTER UPDATE OF package_id, name ON package
WHEN (OLD.package_id, OLD.name) IS NOT (NEW.package_id, NEW.name) BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT d.point_id FROM distribution AS d WHERE d.package_id IN (OLD.package_id, NEW.package_id));
END;
CREATE TRIGGER package_is_for AFTER UPDATE OF package_id, access ON package
WHEN (OLD.package_id, OLD.access) IS NOT (NEW.package_id, NEW.access) BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT held.point_id FROM content_on_points AS held
                         WHERE held.content IN (SELECT of_it.content FROM contents_of_packages AS of_it
                                                 WHERE of_it.package_id IN (OLD.package_id, NEW.package_id)));
    UPDATE assignment_change SET number = number + 1
     WHERE what = 'privacy'
       AND EXISTS (SELECT 1 FROM contents_of_packages AS of_it WHERE of_it.package_id IN (OLD.package_id, NEW.package_id));
END;

-- Images and applications are on points as packages of the same id, under names of their own.
CREATE TRIGGER image_comes AFTER INSERT ON image BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT d.point_id FROM distribution AS d WHERE d.package_id = NEW.image_id);
END;
CREATE TRIGGER image_goes AFTER DELETE ON image BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT d.point_id FROM distribution AS d WHERE d.package_id = OLD.image_id);
END;
CREATE TRIGGER image_is_called AFTER UPDATE OF image_id, name ON image
WHEN (OLD.image_id, OLD.name) IS NOT (NEW.image_id, NEW.name) BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT d.point_id FROM distribution AS d WHERE d.package_id IN (OLD.image_id, NEW.image_id));
END;
CREATE TRIGGER app_comes AFTER INSERT ON app BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT d.point_id FROM distribution AS d WHERE d.package_id = NEW.app_id);
END;
CREATE TRIGGER app_goes AFTER DELETE ON app BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT d.point_id FROM distribution AS d WHERE d.package_id = OLD.app_id);
END;
CREATE TRIGGER app_is_called AFTER UPDATE OF app_id, name ON app
WHEN (OLD.app_id, OLD.name) IS NOT (NEW.app_id, NEW.name) BEGIN
    UPDATE point_change SET number = number + 1
     WHERE point_id IN (SELECT d.point_id FROM distribution AS d WHERE d.package_id IN (OLD.app_id, NEW.app_id));
END;

-- With a package it is looked for in groups.
CREATE INDEX point_group_package_by_package ON point_group_package (package_id);
