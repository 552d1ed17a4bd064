-- Roles belong to the whole server: roles.sql makes them, and a migration only grants.
grant select on products to inventory_service;

grant select on products to inventory_worker;
grant update (stock) on products to inventory_worker;
grant select, insert on reservations to inventory_worker;
