-- At the site: where a point's reports come from. A point that is named by host is nearer to some clients than to others because of it.
ALTER TABLE point ADD COLUMN address TEXT;
