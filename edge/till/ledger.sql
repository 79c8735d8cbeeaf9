-- The till's own ledger. Rows are never deleted: the day's count is taken from them.
CREATE TABLE IF NOT EXISTS meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS facts (
    sequence    INTEGER PRIMARY KEY,             -- the lane's own counter: from 1, contiguous
    id          TEXT NOT NULL UNIQUE,            -- UUIDv7
    type        TEXT NOT NULL,
    body        BLOB NOT NULL,                   -- the CloudEvent, byte for byte as it is sent, however often; sealed
    state       TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'accepted', 'refused')),
    answer      TEXT,                            -- JSON: what the gateway answered
    made_at     TEXT NOT NULL,
    answered_at TEXT
) STRICT;

CREATE INDEX IF NOT EXISTS facts_pending ON facts (sequence) WHERE state = 'pending';

-- What the gateway last answered to price.lookup: to sell on while it is away.
CREATE TABLE IF NOT EXISTS prices (
    code  TEXT PRIMARY KEY,
    item  TEXT NOT NULL,                         -- JSON, as answered
    as_of TEXT NOT NULL
) STRICT, WITHOUT ROWID;
