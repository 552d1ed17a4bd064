{ outbox-cdc, ... }:
{
  imports = [ outbox-cdc.nixosModules.order ];
  services.outbox-cdc.order = {
    enable = true;
    openFirewall = true;
    settings = {
      http.listen = "0.0.0.0:9000";
      kafka.bootstrap_servers = "kafka.example.org:29092";
      connector.host = "order.example.org";
    };
    database = {
      createLocally = true;
      openFirewall = true;
      clients = [ { address = "192.0.2.3/32"; } ]; # kafka.example.org
    };
  };
}
