CREATE TABLE flow_times(
    flow INTEGER PRIMARY KEY REFERENCES flows(id), begun REAL, opened REAL, first_upload REAL, last_upload REAL,
    verified REAL, started REAL);

CREATE TABLE runs(began REAL PRIMARY KEY, requests INTEGER NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
