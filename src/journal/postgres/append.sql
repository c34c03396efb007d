-- What an append does, as functions in the database: so it is one round trip, and the log's lock is never held by a
-- node that has gone silent half-way. Its answer is sent before the commit, so it is kept small enough for what the network
-- takes without a reader. Errors of our own: PDLAP, PDHED, PDEPO (see error.rs).

-- They are made anew with each version of the store: those of an earlier one go first.
DO $$
DECLARE
    earlier regprocedure;
BEGIN
    FOR earlier IN SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'progressd'::regnamespace AND p.proname NOT IN ('lock_log', 'enter')
    LOOP
        EXECUTE 'DROP FUNCTION ' || earlier;
    END LOOP;
END
$$;

-- Removes the oldest events other than ticks from the history of a channel, until it has no more than so many with so many
-- bytes of data and names, and answers its row after that. One event is never too big. Of a topic the newest change
-- stays, which may be its value.
CREATE FUNCTION progressd.trim_history(c progressd.channels, lasting_max bigint, bytes_max bigint)
RETURNS progressd.channels LANGUAGE plpgsql AS $$
DECLARE
    oldest record;
    topic_value bigint;
BEGIN
    FOR oldest IN SELECT h.seq, octet_length(h.data) + coalesce(octet_length(h.name), 0) AS bytes
        FROM progressd.history h WHERE h.channel = c.created AND h.class <> 2 AND h.seq > c.floor
        ORDER BY h.seq LIMIT c.lasting -- All of them; that it is limited lets the planner take the index.
    LOOP
        EXIT WHEN c.lasting <= lasting_max AND (c.bytes <= bytes_max OR c.lasting <= 1);
        c.floor := oldest.seq;
        c.lasting := c.lasting - 1;
        c.bytes := c.bytes - oldest.bytes;
    END LOOP;
    IF c.channel_kind = 'topic' THEN
        SELECT max(h.seq) INTO topic_value FROM progressd.history h
            WHERE h.channel = c.created AND h.class = 1 AND h.seq <= c.floor;
    END IF;
    DELETE FROM progressd.history h
        WHERE h.channel = c.created AND h.seq <= c.floor AND h.seq IS DISTINCT FROM topic_value;
    IF c.tick <= c.floor THEN
        c.tick := 0;
    END IF;
    RETURN c;
END
$$;

-- Trims all histories to so many bytes, where the store was not told before that they are kept up to these.
CREATE FUNCTION progressd.bound_histories(bytes_max bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c progressd.channels;
BEGIN
    IF (SELECT s.history_bytes FROM progressd.store s) = bytes_max THEN
        RETURN;
    END IF;
    PERFORM progressd.lock_log();
    FOR c IN SELECT r.* FROM progressd.channels r WHERE r.bytes > bytes_max AND r.lasting > 1 LOOP
        c := progressd.trim_history(c, c.lasting, bytes_max);
        UPDATE progressd.channels r SET floor = c.floor, lasting = c.lasting, bytes = c.bytes, tick = c.tick
            WHERE r.created = c.created;
    END LOOP;
    UPDATE progressd.store SET history_bytes = bytes_max;
END
$$;

-- Adds one event to the log, and folds it into the row and the history of its channel. Classes: 1 change, 2 tick,
-- 3 final, 4 hidden, 5 tombstone, 6 notice; any other is one of a newer version, and kept like a change. The history keeps up to `lasting_max` events other than ticks, and up to
-- `bytes_max` bytes of these.
CREATE FUNCTION progressd.add_event(
    e progressd.events, channel_kind text, lasting_max bigint, bytes_max bigint,
    status text, kind text, user_id text, queue text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c progressd.channels;
    begins boolean;
    old_floor bigint := 0;
BEGIN
    INSERT INTO progressd.events SELECT (e).*;
    SELECT * INTO c FROM progressd.channels r WHERE r.channel = e.channel;
    begins := c.created IS NULL OR c.gone_at IS NOT NULL;
    IF begins THEN
        IF c.created IS NOT NULL THEN
            -- It begins anew, above the floor of the life that has ended.
            DELETE FROM progressd.channels r WHERE r.created = c.created;
            old_floor := c.floor;
        END IF;
        c := NULL;
        c.created := e.seq;
        c.channel := e.channel;
        c.channel_kind := channel_kind;
        c.floor := old_floor;
        c.lasting := 0;
        c.bytes := 0;
        c.tick := 0;
        IF e.origin IS NOT NULL AND e.class <> 5 THEN
            INSERT INTO progressd.origins VALUES (c.created, e.origin);
        END IF;
    END IF;
    c.last := e.seq;
    c.memo := coalesce(e.memo, c.memo);

    IF e.class = 2 AND c.tick > 0 THEN
        -- The later tick stands for it.
        DELETE FROM progressd.history h WHERE h.channel = c.created AND h.seq = c.tick;
        c.tick := 0;
    ELSIF e.class NOT IN (2, 4, 5) THEN
        IF c.visible_class = 2 THEN
            -- A tick that is the last visible event stands in the row only, until something lasting follows it.
            INSERT INTO progressd.history VALUES
                (c.created, c.visible, c.visible_at, c.visible_class, c.visible_grouped, c.visible_name, c.data);
            c.tick := c.visible;
        END IF;
        INSERT INTO progressd.history VALUES (c.created, e.seq, e.at, e.class, e.grouped, e.name, e.data);
        c.lasting := c.lasting + 1;
        c.bytes := c.bytes + octet_length(e.data) + coalesce(octet_length(e.name), 0);
    END IF;
    IF e.class NOT IN (4, 5) THEN
        c.visible := e.seq;
        c.visible_at := e.at;
        c.visible_class := e.class;
        c.visible_grouped := e.grouped;
        c.visible_name := e.name;
        c.data := e.data;
        c.status := status;
        c.kind := kind;
        c.user_id := user_id;
        c.queue := queue;
    END IF;
    IF e.class = 3 THEN
        c.finished_at := e.at;
    ELSIF e.class = 5 THEN
        DELETE FROM progressd.history h WHERE h.channel = c.created;
        DELETE FROM progressd.origins o WHERE o.channel = c.created;
        c.gone_at := e.at;
        c.floor := e.seq;
        c.lasting := 0;
        c.bytes := 0;
        c.tick := 0;
        SELECT NULL, NULL, NULL, NULL, NULL, NULL INTO
            c.visible, c.visible_at, c.visible_class, c.visible_grouped, c.visible_name, c.data;
        SELECT NULL, NULL, NULL, NULL, NULL INTO c.memo, c.status, c.kind, c.user_id, c.queue;
    END IF;
    IF c.lasting > lasting_max OR c.bytes > bytes_max AND c.lasting > 1 THEN
        c := progressd.trim_history(c, lasting_max, bytes_max);
    END IF;

    IF begins THEN
        INSERT INTO progressd.channels SELECT c.*;
    ELSE
        UPDATE progressd.channels r SET
            last = c.last, floor = c.floor, lasting = c.lasting, bytes = c.bytes, tick = c.tick,
            finished_at = c.finished_at, gone_at = c.gone_at, status = c.status, kind = c.kind, user_id = c.user_id, queue = c.queue,
            visible = c.visible, visible_at = c.visible_at, visible_class = c.visible_class,
            visible_grouped = c.visible_grouped, visible_name = c.visible_name, data = c.data, memo = c.memo
        WHERE r.created = c.created;
    END IF;
END
$$;

-- Removes the oldest events of the log beyond so many.
CREATE FUNCTION progressd.trim_log(log_max bigint, at_most bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    through bigint;
BEGIN
    SELECT least(s.head - log_max, s.trimmed_through + at_most) INTO through
        FROM progressd.store s WHERE s.head - log_max > s.trimmed_through;
    IF through IS NOT NULL THEN
        DELETE FROM progressd.events e WHERE e.seq <= through;
        UPDATE progressd.store SET trimmed_through = through;
    END IF;
END
$$;

-- Tries groups in order. `expect_groups` and `draft_groups` say to which group, counted from one, each expectation and
-- each draft belongs, in their order; an expected seq that is NULL is that of a channel which is absent.
--
-- Answers a row a group, with its `place`, the head before all of them in `at`, and a `channel` where it conflicted there, a
-- `seq` where its first event got that one, neither where it was committed before or had no drafts. Then, without a place,
-- the events of others after `known_head`, as long as they have no more than `answer_max` bytes.
CREATE FUNCTION progressd.append(
    known_head bigint, known_epoch text, log_max bigint,
    group_ids uuid[], group_ats bigint[],
    expect_groups integer[], expect_channels text[], expect_seqs bigint[],
    draft_groups integer[], draft_channels text[], draft_channel_kinds text[], draft_bounds bigint[],
    draft_classes smallint[], draft_names text[], draft_datas bytea[], draft_memos bytea[], draft_origins bytea[],
    draft_statuses text[], draft_kinds text[], draft_user_ids text[], draft_queues text[],
    -- Absent in an append of a node of version 1, which does not know it.
    bytes_max bigint DEFAULT 9223372036854775807,
    -- Of one of version 3.
    answer_max bigint DEFAULT 9223372036854775807
) RETURNS TABLE (
    place integer, seq bigint, at bigint, class smallint, channel text, grouped uuid, name text, data bytea,
    memo bytea, origin bytea
) LANGUAGE plpgsql AS $$
DECLARE
    store progressd.store;
    new_head bigint;
    known uuid[];
    expected integer := 1;
    drafted integer := 1;
    last_seq bigint;
    is_known boolean;
BEGIN
    PERFORM progressd.lock_log();
    SELECT * INTO store FROM progressd.store;
    IF store.epoch <> known_epoch THEN
        RAISE EXCEPTION 'the store has begun another life' USING ERRCODE = 'PDEPO';
    ELSIF known_head > store.head THEN
        RAISE EXCEPTION 'the store ends at %, before the known head %', store.head, known_head
            USING ERRCODE = 'PDHED';
    ELSIF known_head < store.trimmed_through THEN
        RAISE EXCEPTION 'events after the known head have been trimmed' USING ERRCODE = 'PDLAP';
    END IF;
    new_head := store.head;
    known := ARRAY(SELECT DISTINCT e.grouped FROM progressd.events e
        WHERE e.seq > known_head AND e.grouped = ANY (group_ids));

    at := store.head;
    FOR g IN 1 .. cardinality(group_ids) LOOP
        place := g;
        seq := NULL;
        channel := NULL;
        is_known := group_ids[g] = ANY (known);
        WHILE expect_groups[expected] = g LOOP
            IF channel IS NULL AND NOT is_known THEN
                SELECT c.last INTO last_seq FROM progressd.channels c WHERE c.channel = expect_channels[expected];
                IF last_seq IS DISTINCT FROM expect_seqs[expected] THEN
                    channel := expect_channels[expected];
                END IF;
            END IF;
            expected := expected + 1;
        END LOOP;
        WHILE draft_groups[drafted] = g LOOP
            IF channel IS NULL AND NOT is_known THEN
                new_head := new_head + 1;
                seq := coalesce(seq, new_head);
                PERFORM progressd.add_event(
                    ROW (new_head, group_ats[g], draft_classes[drafted], draft_channels[drafted], group_ids[g],
                        draft_names[drafted], draft_datas[drafted], draft_memos[drafted], draft_origins[drafted]),
                    draft_channel_kinds[drafted], draft_bounds[drafted], bytes_max, draft_statuses[drafted],
                    draft_kinds[drafted], draft_user_ids[drafted], draft_queues[drafted]);
            END IF;
            drafted := drafted + 1;
        END LOOP;
        IF channel IS NULL THEN
            known := known || group_ids[g];
        END IF;
        RETURN NEXT;
    END LOOP;

    RETURN QUERY SELECT NULL::integer, o.seq, o.at, o.class, o.channel, o.grouped, o.name, o.data, o.memo, o.origin FROM (
        -- Without its texts, an event is sent in some 200 bytes.
        SELECT e.*, sum(200 + octet_length(e.data) + coalesce(octet_length(e.memo), 0)
            + coalesce(octet_length(e.origin), 0)) OVER (ORDER BY e.seq) AS size
        FROM progressd.events e WHERE e.seq > known_head AND e.seq <= least(store.head, known_head + answer_max / 200)
    ) o WHERE o.size <= answer_max ORDER BY o.seq;
    IF new_head > store.head THEN
        UPDATE progressd.store SET head = new_head;
        IF new_head - log_max > store.trimmed_through + 1024 THEN
            PERFORM progressd.trim_log(log_max, 4096);
        END IF;
        -- A hint for the other nodes, sent when this is committed.
        PERFORM pg_notify('progressd', new_head::text);
    END IF;
END
$$;

-- Removes the oldest tombstones decided before a time, and says how many these are.
CREATE FUNCTION progressd.sweep(before bigint, at_most bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    swept bigint;
BEGIN
    PERFORM progressd.lock_log();
    DELETE FROM progressd.channels c WHERE c.created IN (
        SELECT o.created FROM progressd.channels o WHERE o.gone_at < before ORDER BY o.gone_at, o.created LIMIT at_most);
    GET DIAGNOSTICS swept = ROW_COUNT;
    RETURN swept;
END
$$;

-- Removes from the histories of live channels of a kind, created after a seq, what was decided before a time, up to the first
-- event that was not. Answers after which channel there may be more.
CREATE FUNCTION progressd.trim_channels(of_kind text, before bigint, after bigint, at_most bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    c progressd.channels;
    older bigint;
    removed bigint := 0;
    channels_done bigint := 0;
BEGIN
    PERFORM progressd.lock_log();
    FOR c IN SELECT r.* FROM progressd.channels r
        WHERE r.channel_kind = of_kind AND r.created > after AND r.finished_at IS NULL AND r.gone_at IS NULL
        AND (SELECT h.at FROM progressd.history h WHERE h.channel = r.created AND h.class <> 2 AND h.seq > r.floor
            ORDER BY h.seq LIMIT 1) < before
        ORDER BY r.created LIMIT at_most
    LOOP
        SELECT count(*) INTO older FROM progressd.history h
            WHERE h.channel = c.created AND h.class <> 2 AND h.seq > c.floor AND NOT EXISTS (
                SELECT FROM progressd.history n WHERE n.channel = c.created AND n.class <> 2 AND n.seq > c.floor
                AND n.seq <= h.seq AND n.at >= before);
        c := progressd.trim_history(c, c.lasting - older, 9223372036854775807);
        UPDATE progressd.channels r SET floor = c.floor, lasting = c.lasting, bytes = c.bytes, tick = c.tick
            WHERE r.created = c.created;
        UPDATE progressd.channels r SET
            visible = NULL, visible_at = NULL, visible_class = NULL, visible_grouped = NULL, visible_name = NULL,
            data = NULL, status = NULL, kind = NULL, user_id = NULL, queue = NULL
        WHERE r.created = c.created AND r.visible <= r.floor;
        removed := removed + older;
        channels_done := channels_done + 1;
        IF channels_done = at_most OR removed >= 4096 THEN
            RETURN c.created;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
