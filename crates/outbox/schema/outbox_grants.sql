-- What the roles of an outbox need, and no more. `writer_role` and `cdc_role` stand for their names: who appends, and Debezium,
-- whose role is made with LOGIN and REPLICATION.

grant insert on outbox to writer_role;
grant select on outbox to cdc_role;
grant select, insert, delete on heartbeat to cdc_role;
