# A directory with a JSON file for each declared connector. Its build fails if a file declares no connector, if two declare
# the same name, or if a connector refers to a credential that the worker does not have.
{ lib, pkgs }:
{
  connectors,
  connectorFiles,
  credentials,
  credentialsDirectory,
}:
let
  text = import ./text.nix { inherit lib; };
  file =
    name: connector:
    pkgs.writeText "${lib.strings.sanitizeDerivationName name}.json" (
      builtins.toJSON {
        inherit name;
        inherit (connector) state;
        config = lib.mapAttrs (_: text) connector.config;
        topics = lib.mapAttrsToList (name: topic: {
          inherit name;
          inherit (topic) partitions;
          replication_factor = topic.replicationFactor;
          config = lib.mapAttrs (_: text) topic.config;
        }) connector.topics;
      }
    );
  files = lib.mapAttrsToList file connectors ++ connectorFiles;
in
pkgs.runCommand "kafka-connect-connectors" { nativeBuildInputs = [ pkgs.jq ]; } ''
  mkdir $out
  for file in ${lib.escapeShellArgs files}; do
    name=$(jq -er 'if (.name | type) == "string" and (.config | type) == "object" then .name else error("not a connector") end' "$file")
    if [ -e "$out/$name.json" ]; then
      echo "connector $name is declared twice" >&2
      exit 1
    fi
    # Kafka Connect would log in with the text of the reference.
    jq -r --arg directory ${credentialsDirectory} '
      .config[] | strings | scan("[$][{]dir:([^:}]+):([^}]+)[}]") | select(.[0] == $directory) | .[1]' "$file" > names
    while read -r credential; do
      if [[ " ${toString (lib.attrNames credentials)} " != *" $credential "* ]]; then
        echo "connector $name refers to the credential $credential; add it to services.kafka-connect.credentials" >&2
        exit 1
      fi
    done < names
    ln -s "$file" "$out/$name.json"
  done
''
