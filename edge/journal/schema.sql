-- The journal and the small durable state that is committed together with it.
-- Whatever a service keeps besides is in a schema script of its own, beside its code.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,         -- epoch, store, created_at, salvaged_from, salvage_pending
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE facts (
    row          INTEGER PRIMARY KEY,
    class        TEXT    NOT NULL,
    seq          INTEGER NOT NULL,  -- contiguous per class, from 1
    id           TEXT    NOT NULL,
    lane         TEXT,
    lane_seq     INTEGER,           -- the lane's own counter; NULL for what the gateway says itself
    type         TEXT    NOT NULL,
    recorded_at  TEXT    NOT NULL,  -- wall clock, UTC; never used for order
    boot         TEXT    NOT NULL,
    mono_ms      INTEGER NOT NULL,  -- since that boot
    clock        TEXT    NOT NULL,  -- synced, holdover, unknown
    digest       BLOB    NOT NULL,  -- of the content as it was sent: same id and same digest is the same fact
    body         BLOB    NOT NULL,  -- the canonical envelope, sealed (sealing.py)
    hash         BLOB    NOT NULL,  -- SHA-256(hash of seq - 1, body in plain)
    conflict     TEXT,              -- id, sequence: this row is the newcomer of a conflict
    conflict_row INTEGER            -- the first of that conflict
) STRICT;
CREATE UNIQUE INDEX facts_by_seq ON facts (class, seq);
CREATE INDEX facts_by_id ON facts (id);
CREATE INDEX facts_by_lane ON facts (lane, lane_seq) WHERE lane_seq IS NOT NULL;
CREATE INDEX facts_in_conflict ON facts (row) WHERE conflict IS NOT NULL;

-- Where a class begins after trimming or eviction: everything up to and including seq is gone.
CREATE TABLE bases (
    class TEXT PRIMARY KEY,
    seq   INTEGER NOT NULL,
    hash  BLOB    NOT NULL          -- of that seq: the chain goes on from here
) STRICT, WITHOUT ROWID;

CREATE TABLE tombstones (
    class  TEXT    NOT NULL,
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    reason TEXT    NOT NULL,        -- evicted, expired
    at     TEXT    NOT NULL,
    PRIMARY KEY (class, first)
) STRICT, WITHOUT ROWID;

-- The highest number of a lane is the larger of floor and max(facts.lane_seq): floor moves only when rows go.
CREATE TABLE lanes (
    lane       TEXT PRIMARY KEY,
    first_seen TEXT    NOT NULL,
    floor      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lane_gaps (
    lane       TEXT    NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    noticed_at TEXT    NOT NULL,
    PRIMARY KEY (lane, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE boots (
    boot       TEXT PRIMARY KEY,
    first_seen TEXT NOT NULL,
    offset_ms  INTEGER,             -- wall clock minus boot clock, once the wall clock could be trusted
    trusted_at TEXT
) STRICT, WITHOUT ROWID;

-- What an older, damaged file still held: facts of an earlier epoch, as they were.
CREATE TABLE salvaged (
    epoch       TEXT    NOT NULL,
    class       TEXT    NOT NULL,
    seq         INTEGER NOT NULL,
    id          TEXT    NOT NULL,
    lane        TEXT,
    lane_seq    INTEGER,
    type        TEXT    NOT NULL,
    recorded_at TEXT    NOT NULL,
    boot        TEXT    NOT NULL,
    mono_ms     INTEGER NOT NULL,
    clock       TEXT    NOT NULL,
    digest      BLOB    NOT NULL,
    body        BLOB    NOT NULL,
    hash        BLOB    NOT NULL,
    conflict    TEXT,
    PRIMARY KEY (epoch, class, seq)
) STRICT;
CREATE INDEX salvaged_by_id ON salvaged (id);

-- Bad input, kept with its reason. Bounded: the oldest goes first, and how much went is counted.
CREATE TABLE quarantine (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at TEXT    NOT NULL,
    last_at     TEXT    NOT NULL,
    origin      TEXT    NOT NULL,   -- topic or device
    lane        TEXT,
    code        TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    payload     BLOB    NOT NULL,   -- the first 64 KiB
    size_bytes  INTEGER NOT NULL,   -- the true size
    fingerprint BLOB    NOT NULL UNIQUE,
    count       INTEGER NOT NULL    -- how often the very same thing came
) STRICT;
CREATE TABLE quarantine_totals (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    kept_rows INTEGER NOT NULL,
    kept_bytes INTEGER NOT NULL,
    evicted   INTEGER NOT NULL      -- messages (not rows) that are no longer kept
) STRICT;
INSERT INTO quarantine_totals VALUES (1, 0, 0, 0);
CREATE TRIGGER quarantine_kept AFTER INSERT ON quarantine BEGIN
    UPDATE quarantine_totals SET kept_rows = kept_rows + 1, kept_bytes = kept_bytes + length(NEW.payload);
END;
CREATE TRIGGER quarantine_gone AFTER DELETE ON quarantine BEGIN
    UPDATE quarantine_totals
       SET kept_rows = kept_rows - 1, kept_bytes = kept_bytes - length(OLD.payload), evicted = evicted + OLD.count;
END;
