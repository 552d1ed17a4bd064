-- Roles belong to the whole server: roles.sql makes them, and a migration only grants.
grant select, insert on orders to order_service;
grant update (status, settled_at, reason, actual_price, available) on orders to order_service;
