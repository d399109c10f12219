-- The journal: one row a turn.
CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    body    BLOB NOT NULL
) STRICT;

-- The last checkpoint: what belongs to no job, and the journal row up to which it and the live rows reach.
CREATE TABLE checkpoint (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    seq     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    body    BLOB NOT NULL
) STRICT;
CREATE TABLE live_job (
    job     INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    body    BLOB NOT NULL
) STRICT;
CREATE TABLE live_part (
    job     INTEGER NOT NULL,
    part    INTEGER NOT NULL,
    version INTEGER NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (job, part)
) STRICT;

-- The archive, for people too. Times are microseconds since the Unix epoch; a `view` is the JSON that `spool job get` prints.
CREATE TABLE job (
    job             INTEGER PRIMARY KEY,
    name            TEXT NOT NULL,
    service         TEXT NOT NULL,
    state           TEXT NOT NULL,
    priority        INTEGER NOT NULL,
    request_id      TEXT,
    submitted_us    INTEGER NOT NULL,
    started_us      INTEGER,
    finished_us     INTEGER,
    failure_class   TEXT,
    failure_code    TEXT,
    failure_message TEXT,
    view            TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX job_request ON job (request_id) WHERE request_id IS NOT NULL;
CREATE TABLE task (
    job         INTEGER NOT NULL,
    task        INTEGER NOT NULL,
    function    TEXT NOT NULL,
    phase       TEXT NOT NULL,
    label       TEXT NOT NULL,
    state       TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    worker      TEXT,
    started_us  INTEGER,
    finished_us INTEGER,
    frames      INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    view        TEXT NOT NULL,
    PRIMARY KEY (job, task)
) STRICT;
CREATE TABLE attempt (
    job             INTEGER NOT NULL,
    task            INTEGER NOT NULL,
    fence           INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    worker          TEXT NOT NULL,
    started_us      INTEGER NOT NULL,
    finished_us     INTEGER NOT NULL,
    failure_class   TEXT,
    failure_code    TEXT,
    failure_message TEXT,
    PRIMARY KEY (job, task, fence)
) STRICT;
CREATE TABLE event (
    job     INTEGER NOT NULL,
    line    INTEGER NOT NULL,
    at_us   INTEGER NOT NULL,
    task    INTEGER,
    attempt INTEGER,
    worker  TEXT,
    level   TEXT NOT NULL,
    text    TEXT NOT NULL,
    PRIMARY KEY (job, line)
) STRICT;
