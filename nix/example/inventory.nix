{ outbox-cdc, ... }:
{
  imports = [ outbox-cdc.nixosModules.inventory-worker ];
  services.outbox-cdc = {
    inventory = {
      enable = true;
      settings.connector.host = "inventory.example.org";
      database = {
        createLocally = true;
        openFirewall = true;
        clients = [ { address = "192.0.2.3/32"; } ]; # kafka.example.org
      };
    };
    inventory-worker = {
      enable = true;
      settings.kafka.bootstrap_servers = "kafka.example.org:29092";
    };
  };
}
