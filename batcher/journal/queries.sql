-- Every statement of the journal, by name; the migrations have files of their own. Loaded by queries.py.
-- `(?...)` stands for as many marks as there are values.

-- name: put_meta
INSERT OR REPLACE INTO meta(name, value) VALUES (?, ?);

-- name: put_new_meta
INSERT OR IGNORE INTO meta(name, value) VALUES (?, ?);

-- name: meta
SELECT value FROM meta WHERE name=?;

-- name: delete_meta
DELETE FROM meta WHERE name=?;

-- name: count_commit
-- No row: another process has counted one meanwhile.
UPDATE meta SET value=? WHERE name='commits' AND value=?;

-- name: put_watch
-- The latest of all.
INSERT INTO meta(name, value) VALUES ('watch_until', ?) ON CONFLICT(name) DO UPDATE SET value=max(value, excluded.value);

-- name: bound_watch
UPDATE meta SET value=? WHERE name='watch_until' AND value>?;

-- name: put_flow
INSERT INTO flows(name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline,
    start_after, inputs, size_bytes, started_at, problem, sum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(name) DO UPDATE SET state=excluded.state, flow_id=excluded.flow_id, generation=excluded.generation,
    external=excluded.external, spec_digest=excluded.spec_digest, stat_digest=excluded.stat_digest,
    content=excluded.content, settle_deadline=excluded.settle_deadline, start_after=excluded.start_after,
    inputs=excluded.inputs, size_bytes=excluded.size_bytes, started_at=excluded.started_at, problem=excluded.problem,
    sum=excluded.sum;

-- name: flows_named
SELECT name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline, start_after,
    inputs, size_bytes, started_at, problem, sum
FROM flows WHERE name IN (?...);

-- name: flows_after
SELECT name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline, start_after,
    inputs, size_bytes, started_at, problem, sum, id
FROM flows WHERE id>? ORDER BY id LIMIT ?;

-- name: unsettled_flows
SELECT name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline, start_after,
    inputs, size_bytes, started_at, problem, sum
FROM flows WHERE state IN ('creating', 'starting') OR settle_deadline IS NOT NULL OR start_after IS NOT NULL;

-- name: starting_flows
SELECT name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline, start_after,
    inputs, size_bytes, started_at, problem, sum
FROM flows WHERE state='starting' ORDER BY name;

-- name: flow_row_id
SELECT id FROM flows WHERE name=?;

-- name: flow_name_of
SELECT name FROM flows WHERE flow_id=?;

-- name: count_flows
SELECT count(*) FROM flows;

-- name: first_flow_ids
SELECT flow_id FROM flows f WHERE flow_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM ends e WHERE e.flow_id=f.flow_id AND e.remote!='kept') ORDER BY id LIMIT ?;

-- name: last_flow_ids
SELECT flow_id FROM flows f WHERE flow_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM ends e WHERE e.flow_id=f.flow_id AND e.remote!='kept') ORDER BY id DESC LIMIT ?;

-- name: put_released
INSERT OR IGNORE INTO released_flows(flow_id) VALUES (?);

-- name: released
SELECT 1 FROM released_flows WHERE flow_id=?;

-- name: put_orphan
INSERT OR REPLACE INTO orphans(flow_id, flow) VALUES (?, ?);

-- name: delete_orphan
DELETE FROM orphans WHERE flow_id=?;

-- name: orphans
SELECT flow_id, flow FROM orphans ORDER BY flow_id;

-- name: orphans_of
SELECT flow_id, flow FROM orphans WHERE flow=? ORDER BY flow_id;

-- name: put_inputs
INSERT INTO inputs(flow, key, state, sha256, spec_digest, size, mtime_ns, inode, tagged, settle_deadline, answered, resent)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(flow, key) DO UPDATE SET state=excluded.state, sha256=excluded.sha256, spec_digest=excluded.spec_digest,
    size=excluded.size, mtime_ns=excluded.mtime_ns, inode=excluded.inode, tagged=excluded.tagged,
    settle_deadline=excluded.settle_deadline, answered=excluded.answered, resent=excluded.resent;

-- name: delete_inputs
DELETE FROM inputs WHERE flow=(SELECT id FROM flows WHERE name=?);

-- name: inputs
SELECT key, state, sha256, spec_digest, size, mtime_ns, inode, tagged, settle_deadline, answered, resent
FROM inputs WHERE flow=(SELECT id FROM flows WHERE name=?) AND key IN (?...);

-- name: inputs_after
SELECT key, state, sha256, spec_digest, size, mtime_ns, inode, tagged, settle_deadline, answered, resent
FROM inputs WHERE flow=(SELECT id FROM flows WHERE name=?) AND key>? ORDER BY key LIMIT ?;

-- name: inputs_in_flight
-- What was announced. Whether it is there hangs on whether it left; of what was resent after an answer, nothing tells.
SELECT f.name, i.key, i.size, i.resent FROM inputs i JOIN flows f ON f.id=i.flow
WHERE f.name IN (?...) AND i.state='sending';

-- name: count_inputs
-- `InputFacts.may_be_there`, in SQL.
SELECT f.name, count(*) FROM inputs i JOIN flows f ON f.id=i.flow
WHERE f.name IN (?...) AND (i.resent OR i.state IN ('sending', 'accepted', 'unknown')) GROUP BY f.id;

-- name: tallies
SELECT f.name, i.state, count(*), sum(i.size) FROM inputs i JOIN flows f ON f.id=i.flow
WHERE f.name IN (?...) GROUP BY i.flow, i.state;

-- name: sending_inputs
SELECT flow, key FROM inputs WHERE state='sending';

-- name: input_never_left
UPDATE inputs SET state='pending' WHERE flow=? AND key=?;

-- name: input_may_have_left
UPDATE inputs SET state='unknown', settle_deadline=?, answered=0 WHERE flow=? AND key=?;

-- name: bound_input_deadlines
-- The third value: all of them, for no clock can be trusted.
UPDATE inputs SET settle_deadline=? WHERE settle_deadline>? OR (settle_deadline IS NOT NULL AND ?);

-- name: put_times
INSERT OR REPLACE INTO flow_times(flow, begun, opened, first_upload, last_upload, verified, started)
    SELECT id, ?, ?, ?, ?, ?, ? FROM flows WHERE name=?;

-- name: times_of
SELECT begun, opened, first_upload, last_upload, verified, started
FROM flow_times WHERE flow=(SELECT id FROM flows WHERE name=?);

-- name: flow_times
SELECT f.name, begun, opened, first_upload, last_upload, verified, started
FROM flow_times t JOIN flows f ON f.id=t.flow WHERE f.name IN (?...);

-- name: put_run
INSERT OR REPLACE INTO runs(began, requests, document) VALUES (?, ?, ?);

-- name: forget_runs
-- All but the last ones, of which those that sent nothing do not count, but for the very last.
DELETE FROM runs WHERE began NOT IN (
    SELECT began FROM runs WHERE requests > 0 OR began = (SELECT max(began) FROM runs) ORDER BY began DESC LIMIT ?);

-- name: runs
SELECT began, document FROM runs ORDER BY began DESC;

-- name: put_end
INSERT OR REPLACE INTO ends(flow_id, flow, state, listed, remote, missing, accepted, reason, progress, seen_at, folder)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: ends
SELECT flow_id, flow, state, listed, remote, missing, accepted, reason, progress, seen_at, folder
FROM ends WHERE flow_id IN (?...);

-- name: ends_not_completed
-- Those of flows that have not ended are among them.
SELECT flow_id, flow, state, listed, remote, missing, accepted, reason, progress, seen_at, folder
FROM ends WHERE flow_id>? AND state!='completed' ORDER BY flow_id LIMIT ?;

-- name: put_attempt
INSERT OR REPLACE INTO attempts(flow, flow_id, generation, started_at) VALUES (?, ?, ?, ?);

-- name: attempts
SELECT flow, flow_id, generation, started_at FROM attempts WHERE flow IN (?...) ORDER BY flow, generation, flow_id;

-- name: count_starts
SELECT (SELECT count(*) FROM flows WHERE state='started') + (SELECT count(*) FROM attempts);

-- name: put_output
INSERT OR REPLACE INTO outputs(flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode,
    path_digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: see_output
INSERT INTO outputs(flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode, path_digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(flow_id, asset_id) DO UPDATE SET state=excluded.state WHERE state!='collected';

-- name: outputs_after
SELECT flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode
FROM outputs WHERE flow_id=? AND asset_id>? ORDER BY asset_id LIMIT ?;

-- name: outputs_of
SELECT flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode
FROM outputs WHERE flow_id=? AND key IN (?...) ORDER BY asset_id;

-- name: output_tallies
SELECT flow_id, state, count(*), sum(size) FROM outputs WHERE flow_id IN (?...) GROUP BY flow_id, state;

-- name: output_at
SELECT flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode
FROM outputs WHERE path_digest=?;

-- name: collected_after
SELECT size, mtime_ns, inode, flow_id, asset_id
FROM outputs WHERE (flow_id, asset_id) > (?, ?) AND state='collected' ORDER BY flow_id, asset_id LIMIT ?;
