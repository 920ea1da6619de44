-- The keys that a listing has found, in a database without a name. Each statement ends with a semicolon; an empty line, and
-- the name of the next, follow.
-- make
CREATE TABLE objects(key TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, mark INTEGER) WITHOUT ROWID;

-- put
INSERT OR REPLACE INTO objects VALUES(?, ?, ?, ?);

-- page
SELECT * FROM objects WHERE key > ? ORDER BY key LIMIT ?;

-- get
SELECT * FROM objects WHERE key = ?;

-- count
SELECT count(*) FROM objects;
