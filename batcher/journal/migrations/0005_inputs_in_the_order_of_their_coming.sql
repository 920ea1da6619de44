-- Rows that stand in the order of their keys, which are random, cost twice as much to write.
CREATE TABLE rows(
    id INTEGER PRIMARY KEY, flow INTEGER NOT NULL REFERENCES flows(id), key BLOB NOT NULL, state TEXT NOT NULL,
    sha256 BLOB, meaning BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    tagged INTEGER NOT NULL, until REAL, answered INTEGER NOT NULL, again INTEGER NOT NULL DEFAULT 0, UNIQUE(flow, key));

INSERT INTO rows(flow, key, state, sha256, meaning, size, mtime_ns, inode, tagged, until, answered, again)
    SELECT flow, key, state, sha256, meaning, size, mtime_ns, inode, tagged, until, answered, again FROM inputs;

DROP TABLE inputs;

ALTER TABLE rows RENAME TO inputs;
