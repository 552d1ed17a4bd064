# Whether a version is within a range of crates/stack/parts/routes.json: the first accepted one, the first refused one.
{ lib }:
let
  # nixpkgs puts the version of Scala before Kafka's: 2.13-4.2.1.
  own = version: lib.last (lib.splitString "-" version);
in
lib.mapAttrs (
  _name: range: version:
  lib.versionAtLeast (own version) (lib.head range) && lib.versionOlder (own version) (lib.last range)
)
