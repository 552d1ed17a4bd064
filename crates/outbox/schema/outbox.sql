-- The producing side: the outbox, and the heartbeat without which an idle outbox pins the
-- write-ahead log of a busy database.

create table outbox (
    id uuid constraint outbox_pkey primary key,
    aggregateid varchar(255) not null,
    aggregatetype varchar(255) not null,
    type varchar(255) not null,
    payload jsonb not null,
    "timestamp" timestamp default now() not null,
    -- Drawn while the aggregate's row is locked, so it is the order of an aggregate's events.
    seq bigint generated always as identity,
    traceparent varchar(55),
    -- A message over Kafka's limit (1 MB by default) would pin the replication slot for ever.
    constraint outbox_payload_size check (octet_length(payload::text) <= 900000)
);

-- Retention looks for the oldest.
create index outbox_timestamp on outbox ("timestamp");

create table heartbeat (
    at timestamptz default now() not null
);

-- Only inserts: updates mean nothing here, deletes are retention.
create publication outbox for table outbox, heartbeat with (publish = 'insert');
