-- At the site: points that may fetch what they are asked for. It is the site's word and not theirs; those that did may go on.
ALTER TABLE point ADD COLUMN may_pull INTEGER NOT NULL DEFAULT 0;
UPDATE point SET may_pull = on_demand;
