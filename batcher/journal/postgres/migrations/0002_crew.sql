-- The runs that work on the batch at the same time, and what they share. PgQueuer's own tables are made by PgQueuer.

-- A session lasts as long as there are runs.
CREATE TABLE session(
    one boolean PRIMARY KEY DEFAULT true CHECK (one), number bigint NOT NULL DEFAULT 0, digest text NOT NULL DEFAULT '',
    planned boolean NOT NULL DEFAULT false, swept boolean NOT NULL DEFAULT false, totals jsonb NOT NULL DEFAULT '{}',
    starts bigint NOT NULL DEFAULT 0, prober text, failed_probes integer NOT NULL DEFAULT 0);

INSERT INTO session DEFAULT VALUES;

CREATE TABLE crew(
    id text PRIMARY KEY, session bigint NOT NULL, place text NOT NULL, backend integer NOT NULL,
    joined timestamptz NOT NULL DEFAULT clock_timestamp(), beat timestamptz NOT NULL DEFAULT clock_timestamp(),
    left_at timestamptz, lease_s double precision NOT NULL, most integer NOT NULL, allotted integer NOT NULL DEFAULT 0, lacking boolean NOT NULL DEFAULT false,
    started bigint NOT NULL DEFAULT 0, uploaded bigint NOT NULL DEFAULT 0, uploaded_bytes bigint NOT NULL DEFAULT 0);

-- When the next request, and the next byte, of all runs may leave.
CREATE TABLE pace(what text PRIMARY KEY, next_at timestamptz NOT NULL);

INSERT INTO pace VALUES ('request', '-infinity'), ('byte', '-infinity');

-- Flows whose sources a run lacks, and flows that were paid for again in this session, as it was asked.
CREATE TABLE lacking(flow text NOT NULL, run text NOT NULL, PRIMARY KEY(flow, run));

CREATE TABLE redone(flow text PRIMARY KEY);
