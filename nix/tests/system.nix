# The whole system on three machines, by the modules: as somebody would have it who keeps each service beside its database.
{
  self,
  parts,
  name,
  globalTimeout,
  script,
}:
{ lib, pkgs, ... }:
let
  secretsDirectory = "/var/lib/secrets";

  # Secrets come while the machine runs, as by a tool that decrypts them: no build sees them.
  secretsFor = units: {
    systemd.services = {
      secrets = {
        description = "secrets have been brought";
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          TimeoutStartSec = "infinity";
        };
        script = ''
          until [ -e ${secretsDirectory}/complete ]; do
            sleep 0.2
          done
        '';
      };
    }
    // lib.genAttrs units (_: {
      requires = [ "secrets.service" ];
      after = [ "secrets.service" ];
    });
    services.outbox-cdc = { inherit secretsDirectory; };
  };

  # Where Kafka Connect comes from: the machine's name stands for both addresses.
  fromKafka = nodes: [
    { address = "${nodes.kafka.networking.primaryIPAddress}/32"; }
    { address = "${nodes.kafka.networking.primaryIPv6Address}/128"; }
  ];
in
{
  inherit name globalTimeout;

  defaults = {
    imports = [ self.nixosModules.default ];
    virtualisation.cores = 2;
  };

  nodes = {
    order =
      { nodes, ... }:
      {
        imports = [
          (secretsFor [
            "outbox-cdc-order"
            "outbox-cdc-order-database"
            "outbox-cdc-order-migrations"
          ])
        ];
        virtualisation.memorySize = 1024;
        virtualisation.diskSize = 2048;
        services.postgresql = {
          package = pkgs.postgresql_18;
          settings.port = parts.routes.ports.order_db;
        };
        services.outbox-cdc.order = {
          enable = true;
          openFirewall = true;
          settings = {
            http.listen = "0.0.0.0:${toString parts.routes.ports.order}";
            kafka.bootstrap_servers = "kafka:${toString parts.routes.ports.kafka}";
            connector.host = "order";
          };
          database = {
            createLocally = true;
            clients = fromKafka nodes;
            openFirewall = true;
          };
        };
      };

    inventory =
      { nodes, ... }:
      {
        imports = [
          (secretsFor [
            "outbox-cdc-inventory"
            "outbox-cdc-inventory-database"
            "outbox-cdc-inventory-migrations"
            "outbox-cdc-inventory-worker"
          ])
        ];
        virtualisation.memorySize = 1024;
        virtualisation.diskSize = 2048;
        services.postgresql = {
          package = pkgs.postgresql_18;
          settings.port = parts.routes.ports.inventory_db;
        };
        services.outbox-cdc = {
          inventory = {
            enable = true;
            settings.connector.host = "inventory";
            database = {
              createLocally = true;
              clients = fromKafka nodes;
              openFirewall = true;
            };
          };
          inventory-worker = {
            enable = true;
            settings.kafka.bootstrap_servers = "kafka:${toString parts.routes.ports.kafka}";
          };
        };
      };

    kafka =
      { nodes, ... }:
      {
        imports = [
          (secretsFor [
            "kafka-connect"
            "kafka-connect-topics"
          ])
        ];
        # A broker and Kafka Connect with 512 MiB of heap each, and Kafka's own tools.
        virtualisation.memorySize = 2560;
        virtualisation.diskSize = 4096;
        services.outbox-cdc.broker = {
          enable = true;
          listenAddress = "0.0.0.0";
          advertisedHost = "kafka";
          openFirewall = true;
        };
        services.kafka-connect = {
          enable = true;
          credentials = {
            order_cdc = "${secretsDirectory}/order_cdc";
            inventory_cdc = "${secretsDirectory}/inventory_cdc";
          };
          connectorFiles = [
            nodes.order.services.outbox-cdc.order.connector
            nodes.inventory.services.outbox-cdc.inventory.connector
          ];
        };
      };
  };

  testScript =
    { nodes, ... }:
    let
      # What the script names of the store, and of the configurations.
      facts = {
        declared = "${nodes.kafka.services.kafka-connect.connectorsFolder}";
        psql = "${pkgs.postgresql_18}/bin/psql";
        consumer = "${pkgs.apacheKafka}/bin/kafka-console-consumer.sh";
        topics = "${pkgs.apacheKafka}/bin/kafka-topics.sh";
        order_db = nodes.order.services.outbox-cdc.order.settings.database.port;
        inventory_db = nodes.inventory.services.outbox-cdc.inventory.settings.database.port;
        order_command = lib.getExe nodes.order.services.outbox-cdc.order.command;
        worker_command = lib.getExe nodes.inventory.services.outbox-cdc.inventory-worker.command;
        inherit (parts.routes) ports;
        secrets = secretsDirectory;
        roles = {
          order = lib.attrNames nodes.order.services.outbox-cdc.order.passwordFiles;
          inventory = lib.attrNames nodes.inventory.services.outbox-cdc.inventory.passwordFiles;
        };
      };
    in
    ''
      from typing import Any
      FACTS: Any = ${builtins.toJSON facts}
    ''
    + script;
}
