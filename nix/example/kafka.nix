{ outbox-cdc, machines, ... }:
{
  imports = [
    outbox-cdc.nixosModules.broker
    outbox-cdc.nixosModules.kafka-connect
  ];
  services.outbox-cdc.broker = {
    enable = true;
    listenAddress = "0.0.0.0";
    advertisedHost = "kafka.example.org";
    openFirewall = true;
  };
  services.kafka-connect = {
    enable = true;
    credentials = {
      order_cdc = "/run/secrets/order_cdc";
      inventory_cdc = "/run/secrets/inventory_cdc";
    };
    connectorFiles = [
      machines.order.config.services.outbox-cdc.order.connector
      machines.inventory.config.services.outbox-cdc.inventory.connector
    ];
  };
}
