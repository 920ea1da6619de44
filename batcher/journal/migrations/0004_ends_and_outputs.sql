CREATE TABLE ends(
    flow_id TEXT PRIMARY KEY, flow TEXT NOT NULL, state TEXT NOT NULL, listed INTEGER NOT NULL,
    remote TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE outputs(
    flow_id TEXT NOT NULL, asset_id TEXT NOT NULL, key BLOB, state TEXT NOT NULL, source TEXT NOT NULL,
    place TEXT NOT NULL, path TEXT NOT NULL, sha256 BLOB, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, spot BLOB, PRIMARY KEY(flow_id, asset_id)) WITHOUT ROWID;

CREATE INDEX outputs_by_key ON outputs(flow_id, key);

CREATE INDEX outputs_by_spot ON outputs(spot) WHERE spot IS NOT NULL;
