# The NixOS modules, one by one and all together as `default`.
{ self, parts }:
let
  # With a key, a configuration can import a module both by itself and within `default`.
  module = name: file: {
    _file = file;
    key = "outbox-cdc/${name}";
    imports = [ (import file { inherit self parts modules; }) ];
  };
  modules = {
    broker = module "broker" ./broker.nix;
    kafka-connect = module "kafka-connect" ./kafka-connect;
    secrets = module "secrets" ./outbox-cdc/secrets.nix;
    order = module "order" ./outbox-cdc/order.nix;
    inventory = module "inventory" ./outbox-cdc/inventory.nix;
    inventory-worker = module "inventory-worker" ./outbox-cdc/inventory-worker.nix;
  };
in
{
  inherit (modules)
    broker
    kafka-connect
    order
    inventory
    inventory-worker
    ;
  default = {
    _file = ./default.nix;
    key = "outbox-cdc/default";
    imports = [
      modules.broker
      modules.kafka-connect
      modules.order
      modules.inventory
      modules.inventory-worker
    ];
  };
}
