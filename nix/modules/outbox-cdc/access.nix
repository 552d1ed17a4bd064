# The lines of pg_hba.conf for a context's database. PostgreSQL applies the first line that matches, and nixpkgs' own lines
# come last: only these roles can connect, only to this database, and from other machines only the roles of `clients`.
# Logical replication matches the line of the database itself.
{ lib }:
{
  database,
  roles,
  clients,
}:
let
  allRoles = lib.concatStringsSep "," roles;
in
lib.concatMapStrings
  (address: ''
    host ${database} ${allRoles} ${address} scram-sha-256
  '')
  [
    "127.0.0.1/32"
    "::1/128"
  ]
+ lib.concatMapStrings (client: ''
  ${
    if client.tls then "hostssl" else "host"
  } ${database} ${lib.concatStringsSep "," client.roles} ${client.address} scram-sha-256
'') clients
+ ''
  local ${database} postgres peer
  local ${database} all reject
  host ${database} all all reject
  local all,replication ${allRoles} reject
  host all,replication ${allRoles} all reject
''
