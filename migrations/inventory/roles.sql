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
    if not exists (select from pg_roles where rolname = 'inventory_keeper') then
        create role inventory_keeper login;
    end if;
end
$$;

-- So it sees who reads the slot. With it comes what that role may do with heartbeats, and that it may end its sessions;
-- attributes such as REPLICATION are not inherited.
grant inventory_cdc to inventory_keeper with inherit true, set false;
