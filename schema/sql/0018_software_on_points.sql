-- OS upgrade packages and applications go to distribution points as packages do: by a row of their own id, made when the first
-- point is sent one. Their files are those of the image or application, which never change.
ALTER TABLE package ADD COLUMN kind TEXT NOT NULL DEFAULT 'updates' CHECK (kind IN ('updates', 'image', 'app'));

-- What a package consists of now, whatever it is: only what the library holds.
CREATE VIEW package_content AS
    SELECT m.package_id, m.file_name, content.sha256, content.sha1, content.size
      FROM package_file AS m JOIN file USING (file_id) JOIN content ON content.sha256 = file.content
     WHERE m.state = 'stored'
    UNION
    SELECT image_id, file_name, content.sha256, content.sha1, content.size
      FROM image JOIN content ON content.sha256 = image.content
    UNION
    SELECT app_id, file_name, content.sha256, content.sha1, content.size
      FROM app_file JOIN content ON content.sha256 = app_file.content;

-- With an image or application go its places.
CREATE TRIGGER image_leaves_points AFTER DELETE ON image BEGIN
    DELETE FROM package WHERE package_id = OLD.image_id AND kind = 'image';
END;
CREATE TRIGGER app_leaves_points AFTER DELETE ON app BEGIN
    DELETE FROM package WHERE package_id = OLD.app_id AND kind = 'app';
END;
