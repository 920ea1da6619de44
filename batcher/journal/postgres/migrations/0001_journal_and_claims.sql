-- Texts sort by their bytes, as Python sorts them, whatever the database's language.
CREATE TABLE schema_version(one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL);

CREATE TABLE meta(name text COLLATE "C" PRIMARY KEY, value text NOT NULL);

CREATE TABLE flows(
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE, state text NOT NULL,
    flow_id text COLLATE "C", generation bigint NOT NULL, external boolean NOT NULL, spec_digest bytea NOT NULL,
    stat_digest bytea NOT NULL, content bytea NOT NULL, settle_deadline double precision, start_after double precision,
    inputs bigint NOT NULL, size_bytes bigint NOT NULL, started_at double precision, problem text) WITH (fillfactor=80);

CREATE INDEX flows_by_flow_id ON flows(flow_id) WHERE flow_id IS NOT NULL;

CREATE TABLE inputs(
    flow bigint NOT NULL, key bytea NOT NULL, state text NOT NULL, sha256 bytea, spec_digest bytea NOT NULL,
    size bigint NOT NULL, mtime_ns bigint NOT NULL, inode bigint NOT NULL, tagged boolean NOT NULL,
    settle_deadline double precision, answered boolean NOT NULL, resent boolean NOT NULL,
    PRIMARY KEY (flow, key)) WITH (fillfactor=80);

CREATE TABLE orphans(flow_id text COLLATE "C" PRIMARY KEY, flow text COLLATE "C" NOT NULL);

CREATE INDEX orphans_by_flow ON orphans(flow);

CREATE TABLE released_flows(flow_id text COLLATE "C" PRIMARY KEY);

CREATE TABLE flow_times(
    flow bigint PRIMARY KEY, begun double precision, opened double precision, first_upload double precision,
    last_upload double precision, verified double precision, started double precision);

CREATE TABLE runs(began double precision PRIMARY KEY, requests bigint NOT NULL, document text NOT NULL);

CREATE TABLE ends(
    flow_id text COLLATE "C" PRIMARY KEY, flow text COLLATE "C" NOT NULL, state text NOT NULL, listed boolean NOT NULL,
    remote text NOT NULL, missing bigint NOT NULL, accepted boolean NOT NULL, reason text NOT NULL,
    progress double precision NOT NULL, seen_at double precision, folder text NOT NULL);

CREATE TABLE attempts(
    flow text COLLATE "C" NOT NULL, flow_id text COLLATE "C" NOT NULL, generation bigint NOT NULL, started_at double precision,
    PRIMARY KEY (flow, flow_id));

CREATE INDEX ends_not_completed ON ends(flow_id) WHERE state <> 'completed';

CREATE TABLE outputs(
    flow_id text COLLATE "C" NOT NULL, asset_id text COLLATE "C" NOT NULL, key bytea, state text NOT NULL, source text NOT NULL,
    place text NOT NULL, path text NOT NULL, sha256 bytea, size bigint NOT NULL, mtime_ns bigint NOT NULL,
    inode bigint NOT NULL, path_digest bytea, PRIMARY KEY (flow_id, asset_id));

CREATE INDEX outputs_by_key ON outputs(flow_id, key);

CREATE INDEX outputs_by_path_digest ON outputs(path_digest) WHERE path_digest IS NOT NULL;

-- Who works on a flow (`run` null: nobody), and who leads. An epoch only grows: whoever holds an older one writes nothing.
CREATE TABLE claims(flow text COLLATE "C" PRIMARY KEY, epoch bigint NOT NULL, run text);

CREATE INDEX claims_of_runs ON claims(run) WHERE run IS NOT NULL;

CREATE TABLE lead(one boolean PRIMARY KEY DEFAULT true CHECK (one), epoch bigint NOT NULL, run text);

-- Each claim reads its row, which the lead locks: so it is there before there is a lead.
INSERT INTO lead(epoch) VALUES (0);
