-- Run once a cluster, by a superuser, before the migrations; running it again changes nothing.
-- Passwords are set apart from this file.
do $$
begin
    if not exists (select from pg_roles where rolname = 'order_owner') then
        create role order_owner login;
    end if;
    if not exists (select from pg_roles where rolname = 'order_service') then
        create role order_service login;
    end if;
    if not exists (select from pg_roles where rolname = 'order_cdc') then
        create role order_cdc login replication;
    end if;
    if not exists (select from pg_roles where rolname = 'order_keeper') then
        create role order_keeper login;
    end if;
end
$$;

-- It sees who reads the slot, and takes nothing else from that role: attributes such as REPLICATION are not inherited.
grant order_cdc to order_keeper with inherit true, set false;
