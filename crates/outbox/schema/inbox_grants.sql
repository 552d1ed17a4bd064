-- What the role needs that listens and looks after dead letters, and no more. `listener_role` stands for its name.

grant select, insert on inbox to listener_role;
grant select, insert, update on epoch to listener_role;
grant select, insert, update (kind, error, attempts, retry_at), delete on dead_letter to listener_role;
grant select, insert, update (blocked_at), delete on blocked_key to listener_role;
-- Who gave a dead letter up, and when, is the database's word.
grant insert
    (listener, id, kind, error, topic, partition, "offset", produced_at, key, header_names, header_values, value, attempts,
     dead_lettered_at, reason)
    on discarded_dead_letter to listener_role;
