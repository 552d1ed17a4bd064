-- Roles are cluster-wide and made by roles.sql; a migration only grants.
grant select, insert on orders to order_service;
grant update (status, settled_at, reason, actual_price, available) on orders to order_service;
grant insert on outbox to order_service;
grant select, insert on inbox to order_service;
grant select, insert, update on epoch to order_service;
grant select, insert on dead_letter to order_service;

grant select on outbox to order_cdc;
grant select, insert, delete on heartbeat to order_cdc;
