-- A superuser runs this once on each server, before the migrations; another run changes nothing.
-- Passwords are set separately.
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

-- Only a member sees which process reads the slot. Membership also brings the grants on heartbeat, and pg_terminate_backend on
-- sessions of that role; a member does not inherit attributes such as REPLICATION.
grant inventory_cdc to inventory_keeper with inherit true, set false;
