# By part, whether a version is in the accepted range of crates/stack/parts/routes.json, from its first version and below its last.
{ lib }:
let
  # In nixpkgs, Scala's version precedes Kafka's: 2.13-4.2.1.
  own = version: lib.last (lib.splitString "-" version);
in
lib.mapAttrs (
  _name: range: version:
  lib.versionAtLeast (own version) (lib.head range) && lib.versionOlder (own version) (lib.last range)
)
