-- To version 2: the row of a channel counts the bytes of its history, and the store knows up to how many they are kept.

ALTER TABLE progressd.store ADD COLUMN history_bytes bigint NOT NULL DEFAULT 9223372036854775807;

ALTER TABLE progressd.channels ADD COLUMN bytes bigint NOT NULL DEFAULT 0;
UPDATE progressd.channels c SET bytes = h.bytes FROM (
    SELECT o.created, sum(octet_length(k.data) + coalesce(octet_length(k.name), 0)) AS bytes
    FROM progressd.channels o JOIN progressd.history k ON k.channel = o.created
    WHERE k.class <> 2 AND k.seq > o.floor GROUP BY o.created
) h WHERE h.created = c.created;
