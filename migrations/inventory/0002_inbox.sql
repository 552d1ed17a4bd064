-- The consuming side: what has been settled, who may write, and what could not be applied.

create table inbox (
    listener varchar(63) not null,
    id uuid not null,
    settled_at timestamptz default now() not null,
    constraint inbox_pkey primary key (listener, id)
);

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
    constraint dead_letter_pkey primary key (listener, id),
    constraint dead_letter_kind check (kind in ('poison', 'deferred', 'parked')),
    constraint dead_letter_headers check (cardinality(header_names) = cardinality(header_values))
);
