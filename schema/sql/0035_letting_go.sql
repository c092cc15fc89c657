-- At the site: the processes that spoke as a point, in the order in which they were heard of first. Only the last one is listened to,
-- also after the site was started anew: two that were copied from one another would else take turns.
CREATE TABLE point_boot (
    point_id INTEGER NOT NULL REFERENCES point ON DELETE CASCADE,
    number   INTEGER NOT NULL,         -- a later one was heard of later
    boot     BLOB NOT NULL CHECK (length(boot) = 16),
    PRIMARY KEY (point_id, number)
) STRICT, WITHOUT ROWID;

-- On how many days, one after the other, nothing was heard of a device while the site listened.
ALTER TABLE device ADD COLUMN missed INTEGER NOT NULL DEFAULT 0;

-- Since when the device of a run is forgotten: it counts in no status, and what was done is still to be read. NULL: it is not.
ALTER TABLE device_run ADD COLUMN forgotten INTEGER;
CREATE INDEX device_run_forgotten ON device_run (forgotten) WHERE forgotten IS NOT NULL;

-- Messages go by their age.
CREATE INDEX device_message_by_age ON device_message (received);

-- Whether a name that has no key in force ever had one.
CREATE INDEX principal_by_name ON principal (kind, name);
