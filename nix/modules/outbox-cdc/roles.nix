# The roles of a context, its owner first, as its roles.sql makes them.
{ lib, context }:
let
  lines = lib.splitString "\n" (builtins.readFile ../../../migrations/${context}/roles.sql);
  created = map (builtins.match " *create role ([a-z_]+) login.*;") lines;
in
map lib.head (lib.filter (groups: groups != null) created)
