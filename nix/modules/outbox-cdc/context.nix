# A context: the name of its service and its database, its database roles, and its units.
{ lib, name }:
let
  lines = lib.splitString "\n" (builtins.readFile ../../../migrations/${name}/roles.sql);
  created = map (builtins.match " *create role ([a-z_]+) login.*;") lines;
in
{
  inherit name;
  roles = rec {
    # In the order of roles.sql, the owner first.
    all = map lib.head (lib.filter (groups: groups != null) created);
    owner = lib.head all;
    service = "${name}_service";
    keeper = "${name}_keeper";
    # Debezium's; the credential of Kafka Connect has the same name.
    cdc = "${name}_cdc";
  };
  units = rec {
    service = "outbox-cdc-${name}";
    database = "${service}-database";
    migrations = "${service}-migrations";
  };
}
