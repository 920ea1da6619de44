-- Every statement of the journal, by name; the migrations have files of their own. Loaded by statements.py. Many rows come as
-- arrays, one for each column.

-- name: begin
BEGIN;

-- name: commit
COMMIT;

-- name: set_session
SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s(name, value);

-- name: sync_commits
-- Whatever more than that the server does by itself is left to it.
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';

-- name: lock_journal
SELECT pg_try_advisory_lock(%s);

-- name: share_journal
SELECT pg_try_advisory_lock_shared(%s);

-- name: lock_migration
SELECT pg_advisory_xact_lock(%s);

-- name: has_tables
-- Not by `to_regclass`: that asks a cache, which may not know yet what another host has just made.
SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = 'schema_version';

-- name: schema
SELECT 1 FROM pg_namespace WHERE nspname = %s;

-- name: make_schema
-- Its name follows.
CREATE SCHEMA ;

-- name: version
-- Of a table whose name follows: one that may not be read is told so, where a search path would leave it out.
SELECT version FROM ;

-- name: put_version
INSERT INTO schema_version(version) VALUES (%s) ON CONFLICT (one) DO UPDATE SET version = excluded.version;

-- name: put_meta
INSERT INTO meta(name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: put_new_meta
INSERT INTO meta(name, value) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING;

-- name: meta
SELECT value FROM meta WHERE name = %s;

-- name: put_watch
-- The latest of all.
INSERT INTO meta(name, value) VALUES ('watch_until', %s::float8::text) ON CONFLICT (name) DO UPDATE
    SET value = greatest(meta.value::float8, excluded.value::float8)::text;

-- name: put_flows
-- In the order of their coming.
INSERT INTO flows(name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline, start_after,
    inputs, size_bytes, started_at, problem)
SELECT name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline, start_after, inputs,
    size_bytes, started_at, problem
FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::boolean[], %s::bytea[], %s::bytea[], %s::bytea[],
        %s::float8[], %s::float8[], %s::bigint[], %s::bigint[], %s::float8[], %s::text[]) WITH ORDINALITY
    AS r(name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline, start_after, inputs,
        size_bytes, started_at, problem, at)
ORDER BY at
ON CONFLICT (name) DO UPDATE SET state = excluded.state, flow_id = excluded.flow_id, generation = excluded.generation,
    external = excluded.external, spec_digest = excluded.spec_digest, stat_digest = excluded.stat_digest,
    content = excluded.content, settle_deadline = excluded.settle_deadline, start_after = excluded.start_after,
    inputs = excluded.inputs, size_bytes = excluded.size_bytes, started_at = excluded.started_at,
    problem = excluded.problem;

-- name: flows_named
SELECT name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline, start_after, inputs,
    size_bytes, started_at, problem, NULL
FROM flows WHERE name = ANY(%s::text[]);

-- name: flows_after
SELECT name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline, start_after, inputs,
    size_bytes, started_at, problem, NULL, id
FROM flows WHERE id > %s ORDER BY id LIMIT %s;

-- name: starting_flows
SELECT name, state, flow_id, generation, external, spec_digest, stat_digest, content, settle_deadline, start_after, inputs,
    size_bytes, started_at, problem, NULL
FROM flows WHERE state = 'starting' ORDER BY name COLLATE "C";

-- name: flow_name_of
SELECT name FROM flows WHERE flow_id = %s ORDER BY id LIMIT 1;

-- name: count_flows
SELECT count(*) FROM flows;

-- name: first_flow_ids
SELECT flow_id FROM flows f WHERE flow_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM ends e WHERE e.flow_id = f.flow_id AND e.remote <> 'kept') ORDER BY id LIMIT %s;

-- name: last_flow_ids
SELECT flow_id FROM flows f WHERE flow_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM ends e WHERE e.flow_id = f.flow_id AND e.remote <> 'kept') ORDER BY id DESC LIMIT %s;

-- name: put_released
INSERT INTO released_flows(flow_id) SELECT * FROM unnest(%s::text[]) ON CONFLICT (flow_id) DO NOTHING;

-- name: released
SELECT 1 FROM released_flows WHERE flow_id = %s;

-- name: put_orphans
INSERT INTO orphans(flow_id, flow) SELECT * FROM unnest(%s::text[], %s::text[])
ON CONFLICT (flow_id) DO UPDATE SET flow = excluded.flow;

-- name: delete_orphans
DELETE FROM orphans WHERE flow_id = ANY(%s::text[]);

-- name: orphans
SELECT flow_id, flow FROM orphans ORDER BY flow_id;

-- name: orphans_of
SELECT flow_id, flow FROM orphans WHERE flow = %s ORDER BY flow_id;

-- name: put_inputs
-- One whose flow has no row is refused: `flow` is null then.
INSERT INTO inputs(flow, key, state, sha256, spec_digest, size, mtime_ns, inode, tagged, settle_deadline, answered, resent)
SELECT f.id, r.key, r.state, r.sha256, r.spec_digest, r.size, r.mtime_ns, r.inode, r.tagged, r.settle_deadline, r.answered,
    r.resent
FROM unnest(%s::text[], %s::bytea[], %s::text[], %s::bytea[], %s::bytea[], %s::bigint[], %s::bigint[], %s::bigint[],
        %s::boolean[], %s::float8[], %s::boolean[], %s::boolean[])
    AS r(flow, key, state, sha256, spec_digest, size, mtime_ns, inode, tagged, settle_deadline, answered, resent)
    LEFT JOIN flows f ON f.name = r.flow
ON CONFLICT (flow, key) DO UPDATE SET state = excluded.state, sha256 = excluded.sha256, spec_digest = excluded.spec_digest,
    size = excluded.size, mtime_ns = excluded.mtime_ns, inode = excluded.inode, tagged = excluded.tagged,
    settle_deadline = excluded.settle_deadline, answered = excluded.answered, resent = excluded.resent;

-- name: delete_inputs
DELETE FROM inputs i USING flows f WHERE i.flow = f.id AND f.name = ANY(%s::text[]);

-- name: inputs
SELECT key, state, sha256, spec_digest, size, mtime_ns, inode, tagged, settle_deadline, answered, resent
FROM inputs WHERE flow = (SELECT id FROM flows WHERE name = %s) AND key = ANY(%s::bytea[]) ORDER BY key;

-- name: inputs_after
SELECT key, state, sha256, spec_digest, size, mtime_ns, inode, tagged, settle_deadline, answered, resent
FROM inputs WHERE flow = (SELECT id FROM flows WHERE name = %s) AND key > %s ORDER BY key LIMIT %s;

-- name: count_inputs
-- `InputFacts.may_be_there`, in SQL.
SELECT f.name, count(*) FROM inputs i JOIN flows f ON f.id = i.flow
WHERE f.name = ANY(%s::text[]) AND (i.resent OR i.state IN ('sending', 'accepted', 'unknown')) GROUP BY f.name;

-- name: tallies
SELECT f.name, t.state, t.count, t.size
FROM (SELECT flow, state, count(*) AS count, sum(size)::bigint AS size FROM inputs
    WHERE flow = ANY(ARRAY(SELECT id FROM flows WHERE name = ANY(%s::text[]))) GROUP BY flow, state) t
    JOIN flows f ON f.id = t.flow;

-- name: put_times
-- As `FlowTimes.after` joins them.
INSERT INTO flow_times(flow, begun, opened, first_upload, last_upload, verified, started)
SELECT f.id, r.begun, r.opened, r.first_upload, r.last_upload, r.verified, r.started
FROM unnest(%s::text[], %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[])
    AS r(name, begun, opened, first_upload, last_upload, verified, started) JOIN flows f ON f.name = r.name
ON CONFLICT (flow) DO UPDATE SET
    begun = CASE WHEN excluded.opened IS NULL THEN coalesce(flow_times.begun, excluded.begun) ELSE excluded.begun END,
    opened = coalesce(excluded.opened, flow_times.opened),
    first_upload = CASE WHEN excluded.opened IS NULL THEN coalesce(flow_times.first_upload, excluded.first_upload)
        ELSE excluded.first_upload END,
    last_upload = CASE WHEN excluded.opened IS NULL THEN coalesce(excluded.last_upload, flow_times.last_upload)
        ELSE excluded.last_upload END,
    verified = CASE WHEN excluded.opened IS NULL THEN coalesce(excluded.verified, flow_times.verified)
        ELSE excluded.verified END,
    started = CASE WHEN excluded.opened IS NULL THEN coalesce(excluded.started, flow_times.started)
        ELSE excluded.started END;

-- name: flow_times
SELECT f.name, begun, opened, first_upload, last_upload, verified, started
FROM flow_times t JOIN flows f ON f.id = t.flow WHERE f.name = ANY(%s::text[]);

-- name: put_runs
INSERT INTO runs(began, requests, document) SELECT * FROM unnest(%s::float8[], %s::bigint[], %s::text[])
ON CONFLICT (began) DO UPDATE SET requests = excluded.requests, document = excluded.document;

-- name: forget_runs
-- All but the last ones, of which those that sent nothing do not count, but for the very last.
DELETE FROM runs WHERE began NOT IN (
    SELECT began FROM runs WHERE requests > 0 OR began = (SELECT max(began) FROM runs) ORDER BY began DESC LIMIT %s);

-- name: runs
SELECT began, document FROM runs ORDER BY began DESC;

-- name: put_ends
INSERT INTO ends(flow_id, flow, state, listed, remote, missing, accepted, reason, progress, seen_at, folder)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::boolean[], %s::text[], %s::bigint[], %s::boolean[], %s::text[],
    %s::float8[], %s::float8[], %s::text[])
ON CONFLICT (flow_id) DO UPDATE SET flow = excluded.flow, state = excluded.state, listed = excluded.listed,
    remote = excluded.remote, missing = excluded.missing, accepted = excluded.accepted, reason = excluded.reason,
    progress = excluded.progress, seen_at = excluded.seen_at, folder = excluded.folder;

-- name: ends
SELECT flow_id, flow, state, listed, remote, missing, accepted, reason, progress, seen_at, folder
FROM ends WHERE flow_id = ANY(%s::text[]);

-- name: ends_not_completed
SELECT flow_id, flow, state, listed, remote, missing, accepted, reason, progress, seen_at, folder
FROM ends WHERE flow_id > %s AND state <> 'completed' ORDER BY flow_id LIMIT %s;

-- name: put_attempts
INSERT INTO attempts(flow, flow_id, generation, started_at)
SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::float8[])
ON CONFLICT (flow, flow_id) DO UPDATE SET generation = excluded.generation, started_at = excluded.started_at;

-- name: attempts
SELECT flow, flow_id, generation, started_at FROM attempts WHERE flow = ANY(%s::text[]) ORDER BY flow, generation, flow_id;

-- name: count_starts
SELECT (SELECT count(*) FROM flows WHERE state='started') + (SELECT count(*) FROM attempts);

-- name: output_tallies
SELECT flow_id, state, count(*), sum(size)::bigint FROM outputs WHERE flow_id = ANY(%s::text[]) GROUP BY flow_id, state;

-- name: put_outputs
INSERT INTO outputs(flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode, path_digest)
SELECT * FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bytea[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[])
ON CONFLICT (flow_id, asset_id) DO UPDATE SET key = excluded.key, state = excluded.state, source = excluded.source,
    place = excluded.place, path = excluded.path, sha256 = excluded.sha256, size = excluded.size,
    mtime_ns = excluded.mtime_ns, inode = excluded.inode, path_digest = excluded.path_digest;

-- name: see_outputs
INSERT INTO outputs(flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode, path_digest)
SELECT * FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bytea[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[])
ON CONFLICT (flow_id, asset_id) DO UPDATE SET state = excluded.state WHERE outputs.state <> 'collected';

-- name: outputs_after
SELECT flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode
FROM outputs WHERE flow_id = %s AND asset_id > %s ORDER BY asset_id LIMIT %s;

-- name: outputs_of
SELECT flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode
FROM outputs WHERE flow_id = %s AND key = ANY(%s::bytea[]) ORDER BY asset_id;

-- name: output_at
SELECT flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode
FROM outputs WHERE path_digest = %s LIMIT 1;

-- name: collected_after
SELECT size, mtime_ns, inode, flow_id, asset_id
FROM outputs WHERE (flow_id, asset_id) > (%s, %s) AND state = 'collected' ORDER BY flow_id, asset_id LIMIT %s;

-- name: held
-- Whether a connection has the lock that each has who writes: both values are its key.
SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype='advisory' AND objsubid=1 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname=current_database())
    AND classid::bigint = %s::bigint >> 32 & 4294967295 AND objid::bigint = %s::bigint & 4294967295);

-- name: claimed
-- By a run that may be alive; what the dead had claimed is nobody's.
SELECT EXISTS (SELECT 1 FROM claims c LEFT JOIN crew r ON r.id=c.run WHERE c.run IS NOT NULL AND (r.id IS NULL
    OR r.left_at IS NULL AND greatest(r.beat, pg_postmaster_start_time()) > clock_timestamp() - make_interval(secs => r.lease_s)));

-- name: release_all_claims
UPDATE claims SET run = NULL, epoch = epoch + 1 WHERE run IS NOT NULL;

-- name: claim
INSERT INTO claims(flow, epoch, run) SELECT flow, 1, %s FROM unnest(%s::text[]) AS r(flow) ORDER BY flow
ON CONFLICT (flow) DO UPDATE SET epoch = claims.epoch + 1, run = excluded.run RETURNING flow, epoch;

-- name: release
UPDATE claims c SET run = NULL FROM unnest(%s::text[], %s::bigint[]) AS r(flow, epoch)
WHERE c.flow = r.flow AND c.epoch = r.epoch AND c.run = %s;

-- name: release_all
UPDATE claims SET run = NULL WHERE run = %s;

-- name: lock_claims
SELECT flow, epoch, run FROM claims WHERE flow = ANY(%s::text[]) ORDER BY flow FOR SHARE;

-- name: take_lead
UPDATE lead SET epoch = epoch + 1, run = %s RETURNING epoch;

-- name: drop_lead
UPDATE lead SET run = NULL WHERE epoch = %s AND run = %s;

-- name: drop_any_lead
UPDATE lead SET run = NULL WHERE run = %s;

-- name: share_lead
SELECT epoch, run FROM lead FOR SHARE;

-- name: lock_lead
-- Claims wait for it: the lead writes flows whose claims may have no row yet that could be locked.
SELECT epoch, run FROM lead FOR UPDATE;

-- name: watch_claimed
-- Of creates that were under way with an earlier owner; before `mark_flows_unknown`, which gives them a deadline.
INSERT INTO meta(name, value) SELECT 'watch_until', %s::float8::text WHERE EXISTS (
    SELECT 1 FROM flows WHERE name = ANY(%s::text[]) AND state = 'creating' AND settle_deadline IS NULL)
ON CONFLICT (name) DO UPDATE SET value = greatest(meta.value::float8, excluded.value::float8)::text;

-- name: mark_flows_unknown
UPDATE flows f SET
    settle_deadline = CASE WHEN f.state IN ('creating', 'starting') OR f.settle_deadline IS NOT NULL
        THEN least(f.settle_deadline, d.deadline) END,
    start_after = CASE WHEN f.start_after > d.deadline THEN d.deadline ELSE f.start_after END
FROM (SELECT %s::float8 AS deadline) d
WHERE f.name = ANY(%s::text[]) AND (f.settle_deadline > d.deadline OR f.start_after > d.deadline
    OR (f.settle_deadline IS NULL AND f.state IN ('creating', 'starting')));

-- name: mark_inputs_unknown
UPDATE inputs i SET
    settle_deadline = d.deadline,
    answered = i.answered AND i.state <> 'sending',
    state = CASE i.state WHEN 'sending' THEN 'unknown' ELSE i.state END
FROM (SELECT %s::float8 AS deadline) d, flows f
WHERE i.flow = f.id AND f.name = ANY(%s::text[]) AND (i.state = 'sending' OR i.settle_deadline > d.deadline);

-- name: watch_all
INSERT INTO meta(name, value) SELECT 'watch_until', %s::float8::text WHERE EXISTS (
    SELECT 1 FROM flows WHERE state = 'creating' AND settle_deadline IS NULL)
ON CONFLICT (name) DO UPDATE SET value = greatest(meta.value::float8, excluded.value::float8)::text;

-- name: settle_all_flows
UPDATE flows f SET
    settle_deadline = CASE WHEN f.state IN ('creating', 'starting') OR f.settle_deadline IS NOT NULL
        THEN least(f.settle_deadline, d.deadline) END,
    start_after = CASE WHEN f.start_after > d.deadline THEN d.deadline ELSE f.start_after END
FROM (SELECT %s::float8 AS deadline) d
WHERE f.settle_deadline > d.deadline OR f.start_after > d.deadline
    OR (f.settle_deadline IS NULL AND f.state IN ('creating', 'starting'));

-- name: settle_all_inputs
UPDATE inputs i SET
    settle_deadline = d.deadline,
    answered = i.answered AND i.state <> 'sending',
    state = CASE i.state WHEN 'sending' THEN 'unknown' ELSE i.state END
FROM (SELECT %s::float8 AS deadline) d
WHERE i.state = 'sending' OR i.settle_deadline > d.deadline;

-- name: time
SELECT extract(epoch FROM clock_timestamp())::float8;

-- name: journals
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'released_flows' AND has_schema_privilege(n.oid, 'USAGE')
    AND to_regclass(format('%%I.schema_version', n.nspname)) IS NOT NULL
    AND has_table_privilege(to_regclass(format('%%I.meta', n.nspname)), 'SELECT')
    AND has_table_privilege(to_regclass(format('%%I.flows', n.nspname)), 'SELECT')
ORDER BY n.nspname;

-- name: any_flow
SELECT EXISTS (SELECT 1 FROM flows);

-- name: try_turn
SELECT pg_try_advisory_lock(%s);

-- name: give_turn
SELECT pg_advisory_unlock(%s);

-- name: at_work
SELECT c.flow, r.place FROM claims c JOIN crew r ON r.id = c.run WHERE r.left_at IS NULL
    AND greatest(r.beat, pg_postmaster_start_time()) > clock_timestamp() - make_interval(secs => r.lease_s);
