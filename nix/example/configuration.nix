{ config, outbox-cdc, ... }:
{
  imports = [ outbox-cdc.nixosModules.default ];
  services.outbox-cdc = {
    secretsDirectory = "/run/secrets"; # a file for each role, brought by sops-nix, agenix or the like
    broker.enable = true;
    order.enable = true;
    order.database.createLocally = true;
    inventory.enable = true;
    inventory.database.createLocally = true;
    inventory-worker.enable = true;
  };
  services.kafka-connect = {
    enable = true;
    credentials.order_cdc = "/run/secrets/order_cdc";
    credentials.inventory_cdc = "/run/secrets/inventory_cdc";
    connectorFiles = with config.services.outbox-cdc; [
      order.connector
      inventory.connector
    ];
  };
}
