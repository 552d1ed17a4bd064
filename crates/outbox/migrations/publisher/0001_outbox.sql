create table outbox (
    id uuid constraint outbox_pkey primary key,
    aggregateid varchar(255) not null,
    aggregatetype varchar(255) not null,
    type varchar(255) not null,
    payload jsonb not null,
    "timestamp" timestamp default now() not null,
    -- Drawn while the aggregate's row is locked: the order of an aggregate's events.
    seq bigint generated always as identity,
    traceparent varchar(55),
    -- Kafka refuses a larger message (1 MiB by default), and the connector would stop at it. In the envelope the payload is a JSON string,
    -- in which each quote and each backslash takes two bytes, and each character beyond U+FFFF twelve: three times its bytes.
    constraint outbox_payload_size check (
        octet_length(payload::text) <= 333333
        or octet_length(payload::text) <= 900000
        and octet_length(regexp_replace(
                replace(replace(payload::text, '\', '\\'), '"', '\"'), '[\U00010000-\U0010FFFF]', 'twelve bytes', 'g'
            )) <= 1000000
    ),
    -- The topic's name: the connector would stop at one that Kafka refuses. Names that begin with __ are Kafka's own. Which of the other
    -- topics are allowed is the constraint outbox_topics, which follows the outbox's specification.
    constraint outbox_topic_name check (
        aggregatetype ~ '^[A-Za-z0-9._-]{1,249}$' and aggregatetype not in ('.', '..') and aggregatetype !~ '^__'
    ),
    -- No inbox takes it for an event.
    constraint outbox_id check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint outbox_type check (type <> '')
);

-- For the keeper, which looks for the oldest rows.
create index outbox_timestamp on outbox ("timestamp");

-- The connector writes here, so that the slot of an idle outbox advances while the rest of the server is busy.
create table heartbeat (
    at timestamptz default now() not null
);

-- Inserts only: an event is never updated, and deletes are the keeper's.
create publication outbox for table outbox, heartbeat with (publish = 'insert');

-- The server that the outbox is on. After a restore or a move, the offsets that the connector remembers are meaningless.
create table outbox_identity (
    single boolean default true constraint outbox_identity_pkey primary key,
    system_identifier bigint not null,
    timeline integer not null,
    -- The difference that the keeper found, until an operator accepts the database.
    changed text,
    remembered_at timestamptz default now() not null,
    constraint outbox_identity_single check (single)
);
