# The whole system on three machines, by the modules: each service beside its database, the broker and Kafka Connect apart.
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

  # The test script writes the secrets at run time, as a tool that decrypts them would: they never enter the store.
  secretsFor = units: {
    systemd.services = {
      secrets = {
        description = "wait for the secrets";
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

  # The addresses of Kafka Connect: the host name resolves to both.
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
        # The broker and Kafka Connect have a heap of 512 MiB each; the tests run Kafka's tools besides.
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
      # The commands of the operator that docs/nixos.md shows, by machine, with the store path of a service's command.
      machineOf = {
        outbox-cdc-order = "order";
        outbox-cdc-inventory = "inventory";
        outbox-cdc-inventory-worker = "inventory";
        kafka-connect = "kafka";
      };
      shownCommands =
        map
          (
            words:
            let
              program = lib.head words;
              unit = lib.findFirst (
                word: machineOf ? ${word}
              ) (throw "docs/nixos.md: no unit in ${toString words}") words;
              machine = machineOf.${unit};
              service = nodes.${machine}.services.outbox-cdc.${lib.removePrefix "outbox-cdc-" unit};
            in
            {
              inherit machine;
              command = toString (
                [ (if program == unit then lib.getExe service.command else program) ] ++ lib.tail words
              );
            }
          )
          (
            map (groups: lib.splitString " " (lib.head groups)) (
              lib.filter (groups: groups != null) (
                map (builtins.match "# ((systemctl|journalctl|outbox-cdc-[a-z-]+) .*)") (
                  lib.splitString "\n" (builtins.readFile ../../docs/nixos.md)
                )
              )
            )
          );
      # Store paths and settings for the script.
      facts = {
        declared = "${nodes.kafka.services.kafka-connect.connectorsDirectory}";
        psql = "${pkgs.postgresql_18}/bin/psql";
        consumer = "${pkgs.apacheKafka}/bin/kafka-console-consumer.sh";
        topics = "${pkgs.apacheKafka}/bin/kafka-topics.sh";
        order_db = nodes.order.services.outbox-cdc.order.settings.database.port;
        inventory_db = nodes.inventory.services.outbox-cdc.inventory.settings.database.port;
        order_command = lib.getExe nodes.order.services.outbox-cdc.order.command;
        worker_command = lib.getExe nodes.inventory.services.outbox-cdc.inventory-worker.command;
        inherit (parts.routes) ports;
        shown_commands =
          assert shownCommands != [ ];
          shownCommands;
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
