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

-- So it sees who reads the slot. With it comes what that role may do with heartbeats, and that it may end its sessions;
-- attributes such as REPLICATION are not inherited.
grant order_cdc to order_keeper with inherit true, set false;
