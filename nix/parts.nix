# The third-party parts: their versions, settings and ports, from the files that ./dev reads too.
{ lib }:
let
  directory = ../crates/stack/parts;
  properties = import ./properties.nix { inherit lib; };
  routes = lib.importJSON (directory + "/routes.json");

  # The group of `pattern` in the first line of `file` that matches it.
  find =
    file: pattern:
    let
      lines = lib.splitString "\n" (builtins.readFile (directory + "/${file}"));
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
    # The same digest, in the format of Nix.
    hash = builtins.convertHash {
      hash = find "parts.sha256" "([0-9a-f]{64})  archives/debezium-connector-postgres-${lib.escapeRegex version}-plugin\\.tar\\.gz";
      hashAlgo = "sha256";
      toHashFormat = "sri";
    };
  };
  broker = properties (directory + "/broker.properties");
  worker = properties (directory + "/worker.properties");
  # The path: Log4j reads the file itself.
  log4j2 = directory + "/log4j2.properties";
  inherit routes;
  accepted = import ./accepted.nix { inherit lib; } routes.accepted;
}
