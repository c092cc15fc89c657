-- What the library has of updates that are deployed beside task sequences the site's own point serves to devices too, as it does with
-- images and applications.
DROP VIEW deployed_content;
CREATE VIEW deployed_content AS
    SELECT content.sha256, content.sha1, content.size, part.file_name
      FROM deployment AS d
      JOIN sequence_reference AS r ON r.sequence_id = d.sequence_id AND r.kind IN ('image', 'app')
      JOIN (SELECT image_id AS owner, file_name, content FROM image
            UNION ALL SELECT app_id, file_name, content FROM app_file) AS part ON part.owner = r.target
      JOIN content ON content.sha256 = part.content
    UNION
    SELECT content.sha256, content.sha1, content.size, part.file_name
      FROM update_deployment AS d
      JOIN update_deployment_member AS m USING (deployment_id)
      JOIN update_item AS item USING (update_id)
      JOIN revision_file AS part ON part.update_id = item.update_id AND part.number = item.latest
      JOIN file ON file.file_id = part.file_id
      JOIN content ON content.sha256 = file.content
     WHERE d.stopped IS NULL;
