# Whether a version is within a range of crates/stack/parts/routes.json: the first accepted one, the first refused one.
{ lib }:
lib.mapAttrs (
  _name: range: version:
  lib.versionAtLeast version (lib.head range) && lib.versionOlder version (lib.last range)
)
