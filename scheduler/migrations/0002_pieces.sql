-- A checkpoint is written piece by piece beside the last one: its rows carry the journal row up to which they reach, and count once
-- the checkpoint does. An empty body: the job is forgotten.
CREATE TABLE live_job_by_seq (
    job     INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT;
INSERT INTO live_job_by_seq SELECT job, (SELECT seq FROM checkpoint), version, body FROM live_job;
DROP TABLE live_job;
ALTER TABLE live_job_by_seq RENAME TO live_job;

CREATE TABLE live_part_by_seq (
    job     INTEGER NOT NULL,
    part    INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (job, part, seq)
) STRICT;
INSERT INTO live_part_by_seq SELECT job, part, (SELECT seq FROM checkpoint), version, body FROM live_part;
DROP TABLE live_part;
ALTER TABLE live_part_by_seq RENAME TO live_part;
