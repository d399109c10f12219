-- What the rules of a job have seen and done, a page a step: of jobs whose workflow is rules.
CREATE TABLE history (
    job  INTEGER NOT NULL,
    page INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (job, page)
) STRICT;
