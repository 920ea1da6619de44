-- Every statement of the crew and its queue, by name. Loaded by crew.py.
-- A run is dead once it has said nothing for as long as the lease; the time that the database was not there does not count.

-- name: lock_queue_install
SELECT pg_advisory_lock(hashtext(current_schema() || ' queue'));

-- name: unlock_queue_install
SELECT pg_advisory_unlock(hashtext(current_schema() || ' queue'));

-- name: is_member
SELECT 1 FROM crew WHERE id=%(run)s AND left_at IS NULL FOR SHARE;

-- name: session
SELECT number, digest, planned, swept, totals, prober, failed_probes, lineage FROM session FOR UPDATE;

-- name: begin_session
UPDATE session SET number=%(session)s, digest=%(digest)s, planned=false, swept=false, totals='{}', starts=0, prober=NULL,
    failed_probes=0, lineage=%(session)s;

-- name: resume_session
-- Begun again by a run that was in the one before.
UPDATE session SET number=%(session)s, digest=%(digest)s, planned=false, swept=false, totals='{}', prober=NULL,
    failed_probes=0;

-- name: picked_jobs
SELECT payload FROM pgqueuer WHERE status='picked';

-- name: starts_of
SELECT count(*) FROM flows WHERE name = ANY(%(names)s::text[]) AND state IN ('starting', 'started');

-- name: forget_crew
DELETE FROM crew WHERE left_at IS NOT NULL;

-- name: forget_lacking
DELETE FROM lacking;

-- name: forget_redone
DELETE FROM redone;

-- name: forget_claims
UPDATE claims SET run=NULL WHERE run IS NOT NULL;

-- name: another_place
SELECT place FROM crew WHERE left_at IS NULL LIMIT 1;

-- name: join
INSERT INTO crew(id, session, place, backend, lease_s, most)
VALUES (%(run)s, %(session)s, %(place)s, %(backend)s, %(lease)s, %(most)s)
ON CONFLICT (id) DO UPDATE SET session=excluded.session, backend=excluded.backend, beat=clock_timestamp(), left_at=NULL,
    allotted=0;

-- name: expel
UPDATE crew SET left_at=clock_timestamp(), allotted=0 WHERE left_at IS NULL
    AND greatest(beat, pg_postmaster_start_time()) <= clock_timestamp() - make_interval(secs => lease_s) RETURNING id;

-- name: drop_claims
UPDATE claims SET run=NULL WHERE run = ANY(%(runs)s);

-- name: drop_prober
UPDATE session SET prober=NULL WHERE prober = ANY(%(runs)s);

-- name: beat
UPDATE crew SET beat=clock_timestamp(), backend=%(backend)s, allotted=least(allotted, %(in_flight)s), started=%(started)s,
    uploaded=%(uploaded)s, uploaded_bytes=%(uploaded_bytes)s WHERE id=%(run)s;

-- name: put_done
UPDATE crew SET started=%(started)s, uploaded=%(uploaded)s, uploaded_bytes=%(uploaded_bytes)s WHERE id=%(run)s;

-- name: members
SELECT id, place, lacking, allotted, most FROM crew WHERE left_at IS NULL ORDER BY joined, id;

-- name: allot
UPDATE crew SET allotted=%(allotted)s WHERE id=%(run)s;

-- name: put_prober
UPDATE session SET prober=%(prober)s, failed_probes=%(failed)s;

-- name: done_by_all
SELECT coalesce(sum(started), 0)::bigint, coalesce(sum(uploaded), 0)::bigint, coalesce(sum(uploaded_bytes), 0)::bigint
FROM crew WHERE session=(SELECT number FROM session);

-- name: leave
UPDATE crew SET left_at=clock_timestamp(), allotted=0 WHERE id=%(run)s;

-- name: try_lead
SELECT pg_try_advisory_lock(hashtext(current_schema() || ' lead'));

-- name: unlead
SELECT pg_advisory_unlock(hashtext(current_schema() || ' lead'));

-- name: end_dead_leader
-- A leader that is frozen keeps its connection: that is ended, once the run is none of us any more. So is one that its run has
-- lost without the server's having heard of it, once nothing has come over it for a lease.
SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid=l.pid
WHERE l.locktype='advisory' AND l.granted AND a.state_change <= clock_timestamp() - make_interval(secs => %(lease)s)
    AND NOT EXISTS (SELECT 1 FROM crew c WHERE c.backend=l.pid AND c.left_at IS NULL)
    AND l.objid::bigint = hashtext(current_schema() || ' lead')::bit(32)::bigint
    AND l.database = (SELECT oid FROM pg_database WHERE datname=current_database());

-- name: put_lacking_member
UPDATE crew SET lacking=%(lacking)s WHERE id=%(run)s;

-- name: put_redone
-- Those that may be paid for again: not yet in this lineage, or in the same attempt, of which a job was lost.
INSERT INTO redone(flow, redo_of) SELECT * FROM unnest(%(names)s::text[], %(ids)s::text[])
ON CONFLICT (flow) DO UPDATE SET redo_of=redone.redo_of WHERE redone.redo_of = excluded.redo_of RETURNING flow;

-- name: planned
UPDATE session SET planned=true, totals=%(totals)s;

-- name: swept
UPDATE session SET swept=true;

-- name: starts
SELECT starts FROM session FOR UPDATE;

-- name: add_starts
UPDATE session SET starts=greatest(0, starts+%(count)s);

-- name: analyze_queue
ANALYZE pgqueuer;

-- name: own_jobs
SELECT id FROM pgqueuer WHERE id = ANY(%(ids)s) AND queue_manager_id=%(manager)s AND status='picked' FOR UPDATE;

-- name: stale_jobs
-- Of runs that are dead. By the heartbeat, as PgQueuer tells them.
SELECT id FROM pgqueuer WHERE status='picked' AND heartbeat < now() - make_interval(secs => %(lease)s);

-- name: jobs_left
-- Not counted: a look at one of them takes as long however many there are.
SELECT EXISTS (SELECT 1 FROM pgqueuer WHERE status='queued'), EXISTS (SELECT 1 FROM pgqueuer WHERE status='picked');

-- name: put_lacking
INSERT INTO lacking VALUES (%(flow)s, %(run)s) ON CONFLICT DO NOTHING;

-- name: may_have
SELECT count(*) FROM crew WHERE left_at IS NULL AND id NOT IN (SELECT run FROM lacking WHERE flow=%(flow)s);

-- name: reserve
UPDATE pace SET next_at = greatest(next_at, clock_timestamp()) + make_interval(secs => %(takes)s) WHERE what=%(what)s
RETURNING extract(epoch FROM next_at - clock_timestamp())::float8 - %(takes)s;
