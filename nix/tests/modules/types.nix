# Values that the type of an option refuses (`bad`), each beside one that it accepts (`good`).
{ lib, pkgs }:
{
  "a password file is in the store" = {
    bad = ./types.nix;
    good = "/run/elsewhere/order_owner";
    module = file: { services.outbox-cdc.order.passwordFiles.order_owner = lib.mkForce file; };
  };
  "a credential of Kafka Connect is in the store" = {
    bad = "${pkgs.writeText "secret" "secret"}";
    good = "/run/elsewhere/order_cdc";
    module = file: { services.kafka-connect.credentials.order_cdc = lib.mkForce file; };
  };
  "a client has a role of another context" = {
    bad = "inventory_cdc";
    good = "order_cdc";
    module = role: {
      services.outbox-cdc.order.database.clients = [
        {
          address = "192.0.2.7/32";
          roles = [ role ];
        }
      ];
    };
  };
  "the address of a client has no prefix length" = {
    bad = "192.0.2.7";
    good = "192.0.2.7/32";
    module = address: { services.outbox-cdc.order.database.clients = [ { inherit address; } ]; };
  };
  "a client has no role" = {
    bad = [ ];
    good = [ "order_cdc" ];
    module = roles: {
      services.outbox-cdc.order.database.clients = [
        {
          address = "2001:db8::/32";
          inherit roles;
        }
      ];
    };
  };
  "a port is out of range" = {
    bad = 65536;
    good = 65535;
    module = port: { services.outbox-cdc.inventory.settings.database.port = port; };
  };
}
