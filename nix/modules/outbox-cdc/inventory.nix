# The Inventory Service: shows the stock. Its database holds the outbox that the worker writes to.
{
  self,
  parts,
  modules,
}:
{ lib, ... }:
let
  roles = import ./roles.nix {
    inherit lib;
    context = "inventory";
  };
in
{
  imports = [
    modules.secrets
    # For the directory of credentials that the connector refers to.
    modules.kafka-connect
    (import ./service.nix {
      inherit self parts;
      name = "inventory";
      title = "the Inventory Service";
      context = "inventory";
      role = "inventory_service";
      keeper = "inventory_keeper";
      inherit roles;
      port = parts.routes.ports.inventory;
      databasePort = parts.routes.ports.inventory_db;
      listens = false;
    })
    (import ./outbox.nix {
      inherit parts roles;
      context = "inventory";
    })
  ];
}
