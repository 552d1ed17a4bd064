# Names of the properties whose values show a secret in plain text, to the store and to whoever reads the REST API.
{ lib }:
properties:
let
  text = value: if lib.isBool value then lib.boolToString value else toString value;
  is = pattern: what: builtins.match pattern what != null;
  # By its name, as crates/outbox/src/property.rs has it, and what other services' clients call theirs. In the name of a
  # provider of secrets the words may come before its end.
  bearsSecret =
    name:
    let
      further = if lib.hasPrefix "config.providers" name then "" else ".*";
    in
    is ".*((password|passphrase|secret|jaas\\.config)${further}|(key\\.pem|keystore\\.key|access\\.key|private\\.key|api\\.key|authorization|token))" name;
  reference = "[$][{][A-Za-z0-9_-]+:[^}]+[}]";
  # A JAAS configuration names much besides; of its own options each password is a reference.
  hidden =
    name: value:
    if is ".*jaas\\.config" name then
      !(is ".*(password|secret)[^=]*= *\"?[^\"$ ].*" value)
    else
      is reference value;
  # scheme://user:password@host
  inAddress = value: is ".*://[^/@]*:[^/@$]+@.*" value;
in
lib.attrNames (
  lib.filterAttrs (
    name: value: bearsSecret (lib.toLower name) && !(hidden name (text value)) || inAddress (text value)
  ) properties
)
