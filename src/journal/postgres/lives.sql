-- To version 3: a life ends with each start of the server, too. A directory of data that is put back as it was earlier is the
-- same system in the same timeline, but no server goes on in it: it starts.

DROP FUNCTION progressd.enter(text);

-- Tells where this life of the store is, and begins an epoch with this name if it is another one than the last, or if the
-- store ends before an event that the caller knows of the same epoch. Every new connection comes in here. Answers the epoch
-- of what is appended now. A node of an earlier version gives the name only.
CREATE FUNCTION progressd.enter(new_epoch text, known_epoch text DEFAULT NULL, known_head bigint DEFAULT 0) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    store progressd.store;
    here text := (SELECT c.system_identifier::text FROM pg_control_system() c);
    now_on text := substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || ' '
        || (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint;
BEGIN
    -- Most find nothing new, and need no lock to see that.
    FOR try IN 1 .. 2 LOOP
        SELECT * INTO store FROM progressd.store;
        IF store.system_identifier = here AND store.timeline = now_on
            AND NOT coalesce(known_epoch = store.epoch AND known_head > store.head, false)
        THEN
            RETURN store.epoch;
        END IF;
        PERFORM progressd.lock_log();
    END LOOP;
    -- An epoch that has given no seq makes room for this one.
    INSERT INTO progressd.epochs VALUES (store.head + 1, new_epoch)
        ON CONFLICT (first) DO UPDATE SET name = new_epoch;
    UPDATE progressd.store SET epoch = new_epoch, system_identifier = here, timeline = now_on;
    RETURN new_epoch;
END
$$;
