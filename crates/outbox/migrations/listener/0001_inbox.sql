-- The events that a listener has settled: applied, ignored, dead-lettered or parked.
create table inbox (
    listener varchar(63) not null,
    id uuid not null,
    settled_at timestamptz default now() not null,
    constraint inbox_pkey primary key (listener, id)
);

-- For the keeper, which looks for the oldest rows.
create index inbox_settled_at on inbox (settled_at);

-- The latest claim of each partition; every transaction of a listener locks its rows first.
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
    -- The order in which a listener dead-lettered its messages.
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
    -- Stands for the key, which may be too long for an index.
    key_digest bytea generated always as (sha256(key)) stored,
    constraint dead_letter_pkey primary key (listener, id),
    constraint dead_letter_kind check (kind in ('poison', 'deferred', 'unknown', 'parked')),
    constraint dead_letter_headers check (cardinality(header_names) = cardinality(header_values))
);

-- The dead letters of a key, in order.
create index dead_letter_of_key on dead_letter (listener, topic, key_digest, seq);
-- The next automatic retries: only the first dead letter of a key, or one without a key, has a time.
create index dead_letter_retry_at on dead_letter (listener, retry_at) where retry_at is not null;

-- A key that has dead letters: its later messages are parked behind them. Parking and redriving lock the row.
create table blocked_key (
    listener varchar(63) not null,
    topic varchar(249) not null,
    key_digest bytea not null,
    blocked_at timestamptz default now() not null,
    constraint blocked_key_pkey primary key (listener, topic, key_digest)
);

-- The dead letters that an operator discarded, whole: a record that the library never reads.
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
