# The Order Service: accepts orders, publishes them through its outbox and applies their outcomes.
{
  self,
  parts,
  modules,
}:
{ lib, ... }:
let
  roles = import ./roles.nix {
    inherit lib;
    context = "order";
  };
in
{
  imports = [
    modules.secrets
    # For the directory of credentials that the connector refers to.
    modules.kafka-connect
    (import ./service.nix {
      inherit self parts;
      name = "order";
      title = "the Order Service";
      context = "order";
      role = "order_service";
      keeper = "order_keeper";
      inherit roles;
      port = parts.routes.ports.order;
      databasePort = parts.routes.ports.order_db;
      listens = true;
    })
    (import ./outbox.nix {
      inherit parts roles;
      context = "order";
    })
  ];
}
