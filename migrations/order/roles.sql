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
end
$$;
