# Kafka Connect in distributed mode: a worker, the connectors that the configuration declares, and their topics.
{ self, parts, ... }:
{
  imports = [
    (import ./worker.nix { inherit self parts; })
    ./connectors.nix
    ./topics.nix
    (import ./reconciler.nix { inherit self; })
  ];
}
