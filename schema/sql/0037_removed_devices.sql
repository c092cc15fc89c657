-- One word for one thing: a device is removed, by hand or because it was silent. Since when it is, of the one whose run this was; it
-- counts in no status, and what was done is still to be read. NULL: it is not.
DROP INDEX device_run_forgotten;
ALTER TABLE device_run RENAME COLUMN forgotten TO removed;
CREATE INDEX device_run_removed ON device_run (removed) WHERE removed IS NOT NULL;

-- Something was heard of a device since the last roll call, as its key was used, of which nothing else is written down.
ALTER TABLE device ADD COLUMN heard INTEGER NOT NULL DEFAULT 0;
