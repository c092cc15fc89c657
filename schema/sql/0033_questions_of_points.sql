-- What is asked about one point, with each of its reports and assignments, reads the rows of that point alone; so does a point that
-- is forgotten, whose rows elsewhere are looked for by its number.
CREATE INDEX distribution_by_point ON distribution (point_id, state);
CREATE INDEX distributed_file_by_point ON distributed_file (point_id, content, held, size);
CREATE INDEX leaving_file_by_point ON leaving_file (point_id, content);
CREATE INDEX lost_file_by_point ON lost_file (point_id);
CREATE INDEX pull_source_by_source ON pull_source (source_id);
CREATE INDEX point_group_member_by_point ON point_group_member (point_id);

-- The last run that went well may lie behind many that did not.
CREATE INDEX run_succeeded ON run (run_id) WHERE state = 'succeeded';
