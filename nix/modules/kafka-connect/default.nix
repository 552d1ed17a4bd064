# Kafka Connect, distributed: a worker, and the connectors that this configuration declares.
{ self, parts, ... }:
{
  imports = [
    (import ./worker.nix { inherit self parts; })
    (import ./connectors.nix { inherit self; })
  ];
}
