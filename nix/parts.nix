# The parts that are not ours, read from where the other route (./dev) reads them too: nothing is written twice.
{ lib }:
let
  folder = ../crates/stack/parts;
  properties = import ./properties.nix { inherit lib; };
  routes = lib.importJSON (folder + "/routes.json");

  # The one group of `pattern` in the first line of `file` that matches it.
  find =
    file: pattern:
    let
      lines = lib.splitString "\n" (builtins.readFile (folder + "/${file}"));
      found = lib.filter (groups: groups != null) (map (builtins.match pattern) lines);
    in
    if found == [ ] then
      throw "crates/stack/parts/${file} has no line like ${pattern}"
    else
      lib.head (lib.head found);

  version = find "pom.xml" " *<debezium\\.version>([^<]+)</debezium\\.version> *";
in
{
  debezium = {
    inherit version;
    # The form of Nix for the same digest.
    hash = builtins.convertHash {
      hash = find "parts.sha256" "([0-9a-f]{64})  archives/debezium-connector-postgres-${lib.escapeRegex version}-plugin\\.tar\\.gz";
      hashAlgo = "sha256";
      toHashFormat = "sri";
    };
  };
  broker = properties (folder + "/broker.properties");
  worker = properties (folder + "/worker.properties");
  # The file itself: log4j reads it as it is.
  log4j2 = folder + "/log4j2.properties";
  inherit routes;
  accepted = import ./accepted.nix { inherit lib; } routes.accepted;
}
