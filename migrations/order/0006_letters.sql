-- Dead letters that were dead-lettered hold back what comes later of their key, are tried again, and may be given up.
alter table dead_letter
    add column key_digest bytea generated always as (sha256(key)) stored,
    drop constraint dead_letter_kind,
    add constraint dead_letter_kind check (kind in ('poison', 'deferred', 'unknown', 'parked'));

create index dead_letter_of_key on dead_letter (listener, topic, key_digest, seq);
create index dead_letter_due on dead_letter (listener, retry_at) where retry_at is not null;

create table blocked_key (
    listener varchar(63) not null,
    topic varchar(249) not null,
    key_digest bytea not null,
    blocked_at timestamptz default now() not null,
    constraint blocked_key_pkey primary key (listener, topic, key_digest)
);

-- Dead letters from before: their keys have not held anything back, and do from now on.
insert into blocked_key (listener, topic, key_digest)
select distinct listener, topic, key_digest from dead_letter where key is not null;

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

grant update (kind, error, attempts, retry_at), delete on dead_letter to order_service;
grant select, insert, update (blocked_at), delete on blocked_key to order_service;
grant insert on discarded_dead_letter to order_service;
