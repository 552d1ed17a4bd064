# The database roles of a context in the order of its roles.sql, the owner first.
{ lib, context }:
let
  lines = lib.splitString "\n" (builtins.readFile ../../../migrations/${context}/roles.sql);
  created = map (builtins.match " *create role ([a-z_]+) login.*;") lines;
in
map lib.head (lib.filter (groups: groups != null) created)
