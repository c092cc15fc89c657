-- SHA-256 of the key with which a device opens private content, and does nothing else. Points know of no other key. None of
-- a point, and of a device that enrolled before: it is filled in when that shows its key.
ALTER TABLE principal ADD COLUMN content_hash BLOB CHECK (content_hash IS NULL OR length(content_hash) = 32);
CREATE UNIQUE INDEX principal_by_content_hash ON principal (content_hash) WHERE content_hash IS NOT NULL;
