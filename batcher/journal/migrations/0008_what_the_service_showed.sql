-- Of a flow that has not ended the row says what the service has last shown of it.
ALTER TABLE ends ADD COLUMN progress REAL NOT NULL DEFAULT 0;

ALTER TABLE ends ADD COLUMN seen_at REAL;

ALTER TABLE ends ADD COLUMN folder TEXT NOT NULL DEFAULT '';

CREATE TABLE attempts(
    flow TEXT NOT NULL, flow_id TEXT NOT NULL, generation INTEGER NOT NULL, started_at REAL,
    PRIMARY KEY(flow, flow_id)) WITHOUT ROWID;

-- What was paid for again before there was such a table has left its end, and no time.
INSERT INTO attempts SELECT flow, flow_id, 0, NULL FROM ends e
    WHERE EXISTS (SELECT 1 FROM flows f WHERE f.name=e.flow AND f.flow_id IS NOT e.flow_id);
