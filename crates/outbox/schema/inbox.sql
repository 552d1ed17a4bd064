-- The consuming side: what has been settled, who may write, and what could not be applied.

create table inbox (
    listener varchar(63) not null,
    id uuid not null,
    settled_at timestamptz default now() not null,
    constraint inbox_pkey primary key (listener, id)
);

-- Retention looks for the oldest.
create index inbox_settled_at on inbox (settled_at);

-- The consumer that claimed a partition last; every transaction locks its rows first.
create table epoch (
    listener varchar(63) not null,
    topic varchar(249) not null,
    partition integer not null,
    epoch bigint not null,
    constraint epoch_pkey primary key (listener, topic, partition)
);

create table dead_letter (
    listener varchar(63) not null,
    id uuid not null,
    -- The order in which a listener put dead letters aside.
    seq bigint generated always as identity,
    kind varchar(16) not null,
    error text not null,
    topic varchar(249) not null,
    partition integer not null,
    "offset" bigint not null,
    produced_at timestamptz,
    key bytea,
    header_names text[] not null,
    header_values bytea[] not null,
    value bytea,
    attempts integer default 1 not null,
    retry_at timestamptz,
    dead_lettered_at timestamptz default now() not null,
    -- Stands for the key, which may be longer than an index takes.
    key_digest bytea generated always as (sha256(key)) stored,
    constraint dead_letter_pkey primary key (listener, id),
    constraint dead_letter_kind check (kind in ('poison', 'deferred', 'unknown', 'parked')),
    constraint dead_letter_headers check (cardinality(header_names) = cardinality(header_values))
);

-- The dead letters of a key, in their order.
create index dead_letter_of_key on dead_letter (listener, topic, key_digest, seq);
-- All dead letters in their order, page by page.
create index dead_letter_in_order on dead_letter (listener, seq);
-- What is tried again by itself: only the first dead letter of a key, or one without a key, has a time.
create index dead_letter_due on dead_letter (listener, retry_at) where retry_at is not null;

-- A key that has dead letters: what comes later of it is parked behind them. Locked by whoever parks or redrives.
create table blocked_key (
    listener varchar(63) not null,
    topic varchar(249) not null,
    key_digest bytea not null,
    blocked_at timestamptz default now() not null,
    constraint blocked_key_pkey primary key (listener, topic, key_digest)
);

-- Dead letters that somebody gave up, whole: a record, nothing reads it.
create table discarded_dead_letter (
    seq bigint generated always as identity constraint discarded_dead_letter_pkey primary key,
    listener varchar(63) not null,
    id uuid not null,
    kind varchar(16) not null,
    error text not null,
    topic varchar(249) not null,
    partition integer not null,
    "offset" bigint not null,
    produced_at timestamptz,
    key bytea,
    header_names text[] not null,
    header_values bytea[] not null,
    value bytea,
    attempts integer not null,
    dead_lettered_at timestamptz not null,
    discarded_at timestamptz default now() not null,
    discarded_by name default session_user not null,
    reason text not null
);
