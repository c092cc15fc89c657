-- At the site: points that fetch what they are asked for, as they say themselves.
ALTER TABLE point ADD COLUMN on_demand INTEGER NOT NULL DEFAULT 0;

-- On a point's own machine: content that is here because somebody asked for it, and only as long as there is room.
CREATE TABLE pulled_content (
    sha256    BLOB PRIMARY KEY REFERENCES content ON DELETE CASCADE,
    file_name TEXT NOT NULL,
    private   INTEGER NOT NULL,
    pulled    INTEGER NOT NULL,        -- when it came
    used      INTEGER NOT NULL,        -- when it was sent last, late by half a minute at most
    checked   INTEGER NOT NULL         -- when the site said last that it is for this point
) STRICT, WITHOUT ROWID;
