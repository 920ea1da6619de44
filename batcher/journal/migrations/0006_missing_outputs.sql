ALTER TABLE ends ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;

ALTER TABLE ends ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;

ALTER TABLE ends ADD COLUMN reason TEXT NOT NULL DEFAULT '';

-- What counted as collected with fewer outputs than inputs is looked at again.
UPDATE ends SET listed=0 WHERE state='completed' AND remote='kept' AND
    (SELECT count(*) FROM outputs o WHERE o.flow_id=ends.flow_id)
    < (SELECT inputs FROM flows f WHERE f.name=ends.flow AND f.flow_id=ends.flow_id);
