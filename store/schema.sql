-- SPDX-License-Identifier: MIT
--
-- The database of lectern: DIR/lectern.db, schema version 1 (PRAGMA user_version), application id "LCTN".
-- This file is the design; it is embedded in the program and run once, in one transaction, on an empty database.
--
-- What is where
--   document          texts that were read, once each (identity: SHA-256 of the text)
--   session           a conversation over documents: session_document (which), session_turn (what was said),
--                     session_state (which snapshots belong to it)
--   turn              one thing said, with its exact tokens; shared by forks, never changed
--   segment           the prefix tree: one node for each full segment of 512 tokens, under its chain hash
--                       H(0) = SHA-256("lectern-chain-1" | model key)     H(i+1) = SHA-256(H(i) | ids as u32 LE)
--   snapshot          a recurrent state at one position: under H(position / 512) plus the ids of the tail
--   blob, part        the bytes of rows, tails and snapshots, cut into parts of at most 8 MiB
--
-- Sharing. A prompt that starts like another one has the same first hashes, hence the same segment rows: rows are
-- stored once whatever sessions and branches use them. A session reaches its snapshots, a snapshot its segment, a
-- segment its parents. What no session reaches may be dropped (store_gc, store_evict).
--
-- Checksums. part.sum = Poly1305 of part.bytes under the one-time key
--   SHA-256("lectern-part-1" | name | u32 LE kind | u32 LE ordinal)
-- where name is the segment's hash, or SHA-256("lectern-snapshot-1" | hash | tail) for a snapshot and its tail rows.
-- A part therefore proves not only its bytes but that it stands in its own place. document.sum and turn.sum are SHA-256
-- over their row's other columns (see documents.c, sessions.c).
--
-- Every table is a rowid table, so that a damaged file can be salvaged row by row (salvage.c).

CREATE TABLE document (
    id     INTEGER PRIMARY KEY,
    hash   BLOB    NOT NULL UNIQUE,  -- SHA-256 of text
    sum    BLOB    NOT NULL,         -- SHA-256 of the columns below except text
    path   TEXT,
    title  TEXT,
    mtime  INTEGER NOT NULL,         -- of the file when it was read, as app gave it
    size   INTEGER NOT NULL,
    places BLOB,                     -- opaque; NULL when there are none
    text   BLOB    NOT NULL          -- clean UTF-8; last, so that the other columns are read without it
);

CREATE TABLE session (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    created    INTEGER NOT NULL,     -- unix seconds
    used       INTEGER NOT NULL,
    parent     INTEGER NOT NULL,     -- the session it was forked from (which may be gone), 0 = none
    model      BLOB,                 -- state key it was last used with
    model_name TEXT,
    n_tokens   INTEGER NOT NULL      -- length of its prompt at the last save
);

CREATE TABLE session_document (
    id       INTEGER PRIMARY KEY,
    session  INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    ordinal  INTEGER NOT NULL,       -- 0, 1, ... in the order of the prompt
    document INTEGER NOT NULL REFERENCES document (id),
    UNIQUE (session, ordinal)
);
CREATE INDEX session_document_document ON session_document (document);

CREATE TABLE turn (
    id      INTEGER PRIMARY KEY,
    role    INTEGER NOT NULL,        -- 0 system, 1 user, 2 assistant
    created INTEGER NOT NULL,
    sum     BLOB    NOT NULL,        -- SHA-256 of the other columns
    meta    TEXT,                    -- JSON of app
    ids     BLOB    NOT NULL,        -- tokens, u32 LE
    text    BLOB    NOT NULL         -- UTF-8
);

CREATE TABLE session_turn (
    id      INTEGER PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    turn    INTEGER NOT NULL REFERENCES turn (id),
    UNIQUE (session, ordinal)
);
CREATE INDEX session_turn_turn ON session_turn (turn);

CREATE TABLE blob (
    id   INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,           -- 0 rows of a segment, 1 rows of a tail, 2 snapshot
    size INTEGER NOT NULL            -- bytes, all parts together
);

CREATE TABLE part (
    id    INTEGER PRIMARY KEY,       -- blob * 1024 + ordinal
    sum   BLOB NOT NULL,             -- 16 bytes, see above
    bytes BLOB NOT NULL              -- 8 MiB, the last part what is left
);

CREATE TABLE segment (
    id     INTEGER PRIMARY KEY,
    hash   BLOB    NOT NULL UNIQUE,  -- H(i+1)
    parent INTEGER REFERENCES segment (id), -- the segment before; NULL for a first one
    blob   INTEGER REFERENCES blob (id)     -- NULL: the rows were lost; the next save that passes here brings them again
);
CREATE INDEX segment_parent ON segment (parent);
CREATE INDEX segment_blob ON segment (blob);

CREATE TABLE snapshot (
    id        INTEGER PRIMARY KEY,
    hash      BLOB    NOT NULL,      -- H(position / 512)
    tail      BLOB    NOT NULL,      -- the position % 512 ids after it, u32 LE
    segment   INTEGER REFERENCES segment (id), -- the node of hash; NULL when position < 512
    position  INTEGER NOT NULL,
    keep      INTEGER NOT NULL,      -- 1: a turn or the end of a document; 0: a checkpoint on the way
    created   INTEGER NOT NULL,      -- unix microseconds
    used      INTEGER NOT NULL,      -- last saved or loaded
    tail_blob INTEGER REFERENCES blob (id), -- NULL when the tail is empty
    blob      INTEGER NOT NULL REFERENCES blob (id),
    UNIQUE (hash, tail)
);
CREATE INDEX snapshot_segment ON snapshot (segment);
CREATE INDEX snapshot_blob ON snapshot (blob);
CREATE INDEX snapshot_tail_blob ON snapshot (tail_blob);

CREATE TABLE session_state (
    id       INTEGER PRIMARY KEY,
    session  INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    snapshot INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
    turns    INTEGER NOT NULL,       -- turns the session had when it was saved: rewinding below drops the link
    UNIQUE (session, snapshot)
);
CREATE INDEX session_state_snapshot ON session_state (snapshot);

-- What a session takes: own bytes, and bytes which other sessions reach too (each counted once).
CREATE VIEW session_bytes (session, own, shared) AS
WITH RECURSIVE
    path (session, segment) AS (
        SELECT l.session, s.segment FROM session_state l JOIN snapshot s ON s.id = l.snapshot
         WHERE s.segment IS NOT NULL
        UNION
        SELECT p.session, g.parent FROM path p JOIN segment g ON g.id = p.segment WHERE g.parent IS NOT NULL),
    piece (session, blob) AS (
        SELECT p.session, g.blob FROM path p JOIN segment g ON g.id = p.segment WHERE g.blob IS NOT NULL
        UNION ALL
        SELECT l.session, s.blob FROM session_state l JOIN snapshot s ON s.id = l.snapshot
        UNION ALL
        SELECT l.session, s.tail_blob FROM session_state l JOIN snapshot s ON s.id = l.snapshot
         WHERE s.tail_blob IS NOT NULL),
    users (blob, n) AS (SELECT blob, count(*) FROM piece GROUP BY blob)
SELECT piece.session, sum(CASE WHEN users.n = 1 THEN blob.size ELSE 0 END),
       sum(CASE WHEN users.n > 1 THEN blob.size ELSE 0 END)
  FROM piece JOIN users ON users.blob = piece.blob JOIN blob ON blob.id = piece.blob
 GROUP BY piece.session;
