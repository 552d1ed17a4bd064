-- Run once a cluster, by a superuser, before the migrations; running it again changes nothing.
-- Passwords are set apart from this file.
do $$
begin
    if not exists (select from pg_roles where rolname = 'inventory_owner') then
        create role inventory_owner login;
    end if;
    if not exists (select from pg_roles where rolname = 'inventory_service') then
        create role inventory_service login;
    end if;
    if not exists (select from pg_roles where rolname = 'inventory_worker') then
        create role inventory_worker login;
    end if;
    if not exists (select from pg_roles where rolname = 'inventory_cdc') then
        create role inventory_cdc login replication;
    end if;
end
$$;
