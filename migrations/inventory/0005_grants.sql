-- Roles are cluster-wide and made by roles.sql; a migration only grants.
grant select on products to inventory_service;

grant select on products to inventory_worker;
grant update (stock) on products to inventory_worker;
grant select, insert on reservations to inventory_worker;
grant insert on outbox to inventory_worker;
grant select, insert on inbox to inventory_worker;
grant select, insert, update on epoch to inventory_worker;
grant select, insert on dead_letter to inventory_worker;

grant select on outbox to inventory_cdc;
grant select, insert, delete on heartbeat to inventory_cdc;
