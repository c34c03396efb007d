-- The tables of version 1, all in a schema of their own, so that they can live beside another application's.
--
-- Rows of `channels` and `history` are written in the transaction of the events that change them (append.sql): nothing
-- is folded behind. They are those of the embedded store, but for checksums, which PostgreSQL has for its pages.
--
-- Names sort and compare by bytes: an index in a language's order breaks when the system's libraries change that order.

CREATE SCHEMA progressd;

-- One row. An append takes the log's lock, reads it, and writes it back: so seqs have no gap, and the order in which
-- transactions commit is that of their seqs.
CREATE TABLE progressd.store (
    id smallint PRIMARY KEY CHECK (id = 1),
    version integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    head bigint NOT NULL,
    trimmed_through bigint NOT NULL,
    epoch text COLLATE "C" NOT NULL,
    -- Where this life of the store is: they change when the store is restored elsewhere, or a standby is promoted.
    system_identifier text COLLATE "C" NOT NULL,
    timeline text COLLATE "C" NOT NULL
) WITH (fillfactor = 10);

-- Written by a node that is asked whether it could append.
CREATE TABLE progressd.checks (
    id smallint PRIMARY KEY CHECK (id = 1),
    checked_at timestamptz NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE progressd.epochs (
    first bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL
);

CREATE TABLE progressd.events (
    seq bigint PRIMARY KEY,
    at bigint NOT NULL,
    class smallint NOT NULL,
    channel text COLLATE "C" NOT NULL,
    grouped uuid NOT NULL,
    name text COLLATE "C",
    data bytea NOT NULL,
    memo bytea,
    origin bytea
);

CREATE TABLE progressd.channels (
    created bigint PRIMARY KEY,
    channel text COLLATE "C" NOT NULL UNIQUE,
    channel_kind text COLLATE "C" NOT NULL,
    last bigint NOT NULL,
    floor bigint NOT NULL,
    lasting bigint NOT NULL,
    tick bigint NOT NULL,
    finished_at bigint,
    gone_at bigint,
    status text COLLATE "C",
    kind text COLLATE "C",
    user_id text COLLATE "C",
    queue text COLLATE "C",
    visible bigint,
    visible_at bigint,
    visible_class smallint,
    visible_grouped uuid,
    visible_name text COLLATE "C",
    data bytea,
    memo bytea
    -- Room for a row to be rewritten on its page: a tick changes no column that has an index.
) WITH (fillfactor = 70);
CREATE INDEX channels_by_status ON progressd.channels (channel_kind, status, created) WHERE status IS NOT NULL;
CREATE INDEX channels_by_kind ON progressd.channels (channel_kind, kind, created) WHERE kind IS NOT NULL;
CREATE INDEX channels_by_user ON progressd.channels (channel_kind, user_id, created) WHERE user_id IS NOT NULL;
CREATE INDEX channels_by_queue ON progressd.channels (channel_kind, queue, created) WHERE queue IS NOT NULL;
CREATE INDEX channels_live ON progressd.channels (channel_kind, created)
    WHERE finished_at IS NULL AND gone_at IS NULL;
CREATE INDEX channels_finished ON progressd.channels (finished_at, created)
    WHERE finished_at IS NOT NULL AND gone_at IS NULL;
CREATE INDEX channels_sweepable ON progressd.channels (gone_at, created) WHERE gone_at IS NOT NULL;

-- A channel's key here and in `origins` is the seq of its first event.
CREATE TABLE progressd.history (
    channel bigint NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    class smallint NOT NULL,
    grouped uuid NOT NULL,
    name text COLLATE "C",
    data bytea NOT NULL,
    PRIMARY KEY (channel, seq)
);

CREATE TABLE progressd.origins (
    channel bigint PRIMARY KEY,
    origin bytea NOT NULL
);

-- The lock of the log. Whoever holds it is the only one who writes; it is released when their commit is visible.
CREATE FUNCTION progressd.lock_log() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(x'70726764'::int, 1) -- "prgd"
$$;

-- Tells where this life of the store is, and begins an epoch with this name if it is another one than the last. Every
-- new connection comes in here. Answers the epoch of what is appended now.
CREATE FUNCTION progressd.enter(new_epoch text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    store progressd.store;
    here text := (SELECT c.system_identifier::text FROM pg_control_system() c);
    now_on text := substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
BEGIN
    SELECT * INTO store FROM progressd.store;
    IF store.system_identifier = here AND store.timeline = now_on THEN
        RETURN store.epoch;
    END IF;
    PERFORM progressd.lock_log();
    SELECT * INTO store FROM progressd.store;
    IF store.system_identifier = here AND store.timeline = now_on THEN
        RETURN store.epoch;
    END IF;
    -- An epoch that has given no seq makes room for this one.
    INSERT INTO progressd.epochs VALUES (store.head + 1, new_epoch)
        ON CONFLICT (first) DO UPDATE SET name = new_epoch;
    UPDATE progressd.store SET epoch = new_epoch, system_identifier = here, timeline = now_on;
    RETURN new_epoch;
END
$$;
