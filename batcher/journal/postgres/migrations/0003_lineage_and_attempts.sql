-- Sessions that runs begin again once all of them had lost their leases are of one lineage: what was paid for again as it was
-- asked, and how many flows were started, counts on in them. `redo_of` is the attempt that was paid for again.
ALTER TABLE session ADD COLUMN lineage bigint NOT NULL DEFAULT 0;

ALTER TABLE redone ADD COLUMN redo_of text;
