-- A superuser runs this once on each server, before the migrations; another run changes nothing.
-- Passwords are set separately.
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

-- Only a member sees which process reads the slot. Membership also brings the grants on heartbeat, and pg_terminate_backend on
-- sessions of that role; a member does not inherit attributes such as REPLICATION.
grant order_cdc to order_keeper with inherit true, set false;
