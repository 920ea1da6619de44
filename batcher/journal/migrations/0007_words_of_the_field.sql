-- Released flows were keys of `meta`: 'let go ' and the id.
CREATE TABLE released_flows(flow_id TEXT PRIMARY KEY) WITHOUT ROWID;

INSERT INTO released_flows SELECT substr(name, 8) FROM meta WHERE substr(name, 1, 7)='let go ';

DELETE FROM meta WHERE substr(name, 1, 7)='let go ';

UPDATE meta SET name='unknown_flows_checked' WHERE name='strangers_checked';

ALTER TABLE litter RENAME TO orphans;

ALTER TABLE flows RENAME COLUMN build TO generation;

ALTER TABLE flows RENAME COLUMN given TO external;

ALTER TABLE flows RENAME COLUMN meaning TO spec_digest;

ALTER TABLE flows RENAME COLUMN quick TO stat_digest;

ALTER TABLE flows RENAME COLUMN until TO settle_deadline;

ALTER TABLE flows RENAME COLUMN not_before TO start_after;

ALTER TABLE inputs RENAME COLUMN meaning TO spec_digest;

ALTER TABLE inputs RENAME COLUMN until TO settle_deadline;

ALTER TABLE inputs RENAME COLUMN again TO resent;

DROP INDEX outputs_by_spot;

ALTER TABLE outputs RENAME COLUMN spot TO path_digest;

CREATE INDEX outputs_by_path_digest ON outputs(path_digest) WHERE path_digest IS NOT NULL;
