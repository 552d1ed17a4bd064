-- What the keeper needs: it watches the outbox, and removes what is old.
create index outbox_timestamp on outbox ("timestamp");
create index inbox_settled_at on inbox (settled_at);

-- Which server this is: an outbox that was restored from a backup or moved to another server makes the
-- positions that the connector remembers meaningless.

create table outbox_identity (
    single boolean default true constraint outbox_identity_pkey primary key,
    system_identifier bigint not null,
    timeline integer not null,
    -- What was found to be different, until somebody accepts it.
    changed text,
    remembered_at timestamptz default now() not null,
    constraint outbox_identity_single check (single)
);

grant select, delete on outbox to order_keeper;
grant select on sequence outbox_seq_seq to order_keeper;
grant select, delete on inbox to order_keeper;
grant select (listener, id) on dead_letter to order_keeper;
grant select, insert, update on outbox_identity to order_keeper;
