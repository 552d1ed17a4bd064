# What the modules must not take, each put into the example, which they take as it is.
{ self, pkgs, ... }:
let
  inherit (pkgs) lib;
  with' = module: (self.nixosConfigurations.example.extendModules { modules = [ module ]; }).config;
  # Nothing of ours is wrong, and every unit of ours can be written.
  taken =
    module:
    let
      config = with' module;
      failed = lib.filter (
        { assertion, message }: !assertion && lib.hasPrefix "services." message
      ) config.assertions;
      units = lib.filterAttrs (
        name: _: lib.hasPrefix "outbox-cdc" name || lib.hasPrefix "kafka-connect" name
      ) config.systemd.services;
      texts = lib.mapAttrsToList (_: unit: unit.serviceConfig.LoadCredential or [ ]) units;
      result = builtins.tryEval (builtins.deepSeq texts (units != { } && failed == [ ]));
    in
    result.success && result.value;

  mistakes = {
    "a password's file is in the store" = {
      services.outbox-cdc.order.passwordFiles.order_owner = lib.mkForce ./refused.nix;
    };
    "a credential of Kafka Connect is in the store" = {
      services.kafka-connect.credentials.order_cdc = lib.mkForce "${pkgs.writeText "secret" "secret"}";
    };
    "a password is within a connector" = {
      services.kafka-connect.connectors.plain.config = {
        "connector.class" = "io.debezium.connector.postgresql.PostgresConnector";
        "database.password" = "secret";
      };
    };
    "a role has no password where the database is made" = {
      services.outbox-cdc.order.passwordFiles.order_keeper = null;
    };
    "the database's name needs quotes" = {
      services.outbox-cdc.order.settings.database.name = "order-db";
    };
    "another context's role may come from elsewhere" = {
      services.outbox-cdc.order.database.clients = [
        {
          address = "192.0.2.7/32";
          roles = [ "inventory_cdc" ];
        }
      ];
    };
    "a port is none" = {
      services.outbox-cdc.inventory.settings.database.port = 65536;
    };
    "PostgreSQL is too old" = {
      services.postgresql.package = lib.mkForce (pkgs.postgresql_17 // { version = "16.9"; });
    };
    "Kafka is too new" = {
      services.kafka-connect.package = pkgs.apacheKafka // {
        version = "2.13-5.0.0";
      };
    };
  };
  passed = lib.attrNames (lib.filterAttrs (_: taken) mistakes);

  # What the module says of settings that it finds wrong only when it builds them.
  saidOf =
    settings:
    let
      config = with' { services.outbox-cdc.order = { inherit settings; }; };
    in
    config.services.outbox-cdc.order.settingsFile.overrideAttrs (build: {
      name = "said-of-settings";
      module = build.buildCommand;
      buildCommand = ''
        if bash -euc "$module" 2> said; then
          echo "the module takes settings that it must refuse" >&2
          exit 1
        fi
        mv said $out
      '';
    });
in
{
  settings-refuse = pkgs.runCommand "settings-refuse" { } ''
    grep -F 'did you mean kafka.max_batch' ${saidOf { kafka.max_bacth = 7; }}
    grep -F database.max_connections ${saidOf { database.max_connections = "many"; }}
    touch $out
  '';

  modules-refuse =
    if !taken { } then
      throw "the modules do not take the example itself"
    else if passed != [ ] then
      throw "the modules take what they must refuse: ${lib.concatStringsSep "; " passed}"
    else
      pkgs.runCommand "modules-refuse" { mistakes = lib.attrNames mistakes; } ''
        printf 'refused: %s\n' "$mistakes" > $out
      '';
}
