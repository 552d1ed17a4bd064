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
