# The names of the properties that hold a secret in plain text, which the Nix store and the REST API would disclose.
{ lib }:
properties:
let
  text = import ./text.nix { inherit lib; };
  matches = pattern: value: builtins.match pattern value != null;
  # The names that crates/outbox/src/property.rs knows, and those of other services' clients. In the name of a config
  # provider's property the words count only at its end.
  isSecret =
    name:
    let
      suffix = if lib.hasPrefix "config.providers" name then "" else ".*";
    in
    matches ".*((password|passphrase|secret|jaas\\.config)${suffix}|(key\\.pem|keystore\\.key|access\\.key|private\\.key|api\\.key|authorization|token))" name;
  reference = "[$][{][A-Za-z0-9_-]+:[^}]+[}]";
  # A JAAS configuration holds other options too; each of its passwords must be a reference.
  isReference =
    name: value:
    if matches ".*jaas\\.config" name then
      !(matches ".*(password|secret)[^=]*= *\"?[^\"$ ].*" value)
    else
      matches reference value;
  # scheme://user:password@host
  isUrlWithPassword = matches ".*://[^/@]*:[^/@$]+@.*";
in
lib.attrNames (
  lib.filterAttrs (
    name: value:
    isSecret (lib.toLower name) && !(isReference name (text value)) || isUrlWithPassword (text value)
  ) properties
)
