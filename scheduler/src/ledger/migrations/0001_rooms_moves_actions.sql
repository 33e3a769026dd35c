-- The same statements serve SQLite and PostgreSQL. All times are the store's, in ms since 1970.

-- One generation (epoch) of a room: where it was, and for how long.
CREATE TABLE rooms (
    namespace TEXT NOT NULL,
    room TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    node TEXT,                  -- absent where nothing but its end was heard
    incarnation BIGINT,
    granted_ms BIGINT,
    opened_ms BIGINT,           -- absent: nobody came
    released_ms BIGINT,         -- its node ended it, or a scheduler, because the node was gone
    moved_ms BIGINT,            -- a later epoch took its place while it was not released
    peak_participants BIGINT NOT NULL,
    heard_ms BIGINT NOT NULL,   -- when the last of this was heard; retention counts from it
    PRIMARY KEY (namespace, room, epoch)
);
CREATE INDEX rooms_by_heard ON rooms (heard_ms);

-- A room's home changed while the room was not released. The key is the new home's epoch.
CREATE TABLE moves (
    namespace TEXT NOT NULL,
    room TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    from_epoch BIGINT NOT NULL,
    from_node TEXT NOT NULL,
    from_incarnation BIGINT NOT NULL,
    node TEXT NOT NULL,
    incarnation BIGINT NOT NULL,
    why TEXT NOT NULL,          -- taken_over, granted_anew, asserted_anew, not_heard
    heard_ms BIGINT NOT NULL,
    PRIMARY KEY (namespace, room, epoch)
);
CREATE INDEX moves_by_heard ON moves (heard_ms);

-- What an operator did.
CREATE TABLE actions (
    id TEXT NOT NULL PRIMARY KEY,
    heard_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX actions_by_heard ON actions (heard_ms);
