-- What the role needs that keeps an outbox and its service's inbox, and no more. `keeper_role` stands for its name: neither an
-- owner nor a writer, and a member of Debezium's role, by a superuser, so that it sees the slot's reader:
-- grant cdc_role to keeper_role with inherit true, set false;

grant select, delete on outbox to keeper_role;
grant select on sequence outbox_seq_seq to keeper_role;
grant select, insert, update on outbox_identity to keeper_role;
grant select, delete on inbox to keeper_role;
-- What a dead letter is still about stays in the inbox.
grant select (listener, id) on dead_letter to keeper_role;
