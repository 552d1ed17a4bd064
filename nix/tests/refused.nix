# What the modules must not take, each put into the example, which they take as it is.
{
  self,
  nixpkgs,
  pkgs,
  ...
}:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) system;
  example = import ../example { inherit self nixpkgs system; };
  with' = module: (example.extendModules { modules = [ module ]; }).config;
  unitsOf =
    config:
    lib.mapAttrs (_: unit: { inherit (unit) environment serviceConfig; }) (
      lib.filterAttrs (
        name: _: lib.hasPrefix "outbox-cdc" name || lib.hasPrefix "kafka-connect" name
      ) config.systemd.services
    );
  # What is said of a configuration, when every unit of ours can be written; null if one cannot.
  said =
    module:
    let
      config = with' module;
      failed = lib.filter (
        { assertion, message, ... }: !assertion && lib.hasPrefix "services." message
      ) config.assertions;
      result = builtins.tryEval (
        builtins.deepSeq (unitsOf config) (map ({ message, ... }: message) failed)
      );
    in
    if result.success then result.value else null;

  # With what is said of it.
  mistakes = {
    "a password is within a connector" = {
      says = "plain: database.password would be in the store";
      services.kafka-connect.connectors.plain.config = {
        "connector.class" = "io.debezium.connector.postgresql.PostgresConnector";
        "database.password" = "secret";
      };
    };
    "what only looks like a reference is within a connector" = {
      says = "plain: database.password would be in the store";
      services.kafka-connect.connectors.plain.config."database.password" = "secret\${";
    };
    "a password is in an address within a connector" = {
      says = "plain: connection.url would be in the store";
      services.kafka-connect.connectors.plain.config."connection.url" =
        "jdbc:postgresql://user:secret@db.example.org/orders";
    };
    "a password is in the worker's settings" = {
      says = "sasl.jaas.config would be in the store";
      services.kafka-connect.settings."sasl.jaas.config" =
        "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"connect\" password=\"secret\";";
    };
    "a role has no password where the database is made" = {
      says = "every role needs a password";
      services.outbox-cdc.order.passwordFiles.order_keeper = null;
    };
    "the database's name needs quotes" = {
      says = "`order-db` would need quotes";
      services.outbox-cdc.order.settings.database.name = "order-db";
    };
    "PostgreSQL is too old" = {
      says = "PostgreSQL 16.9 is not accepted";
      services.postgresql.package = lib.mkForce (pkgs.postgresql_17 // { version = "16.9"; });
    };
    "Kafka is too new" = {
      says = "Kafka 2.13-5.0.0 is not accepted";
      services.kafka-connect.package = pkgs.apacheKafka // {
        version = "2.13-5.0.0";
      };
    };
  };
  # By the option's type: another value of it is taken.
  wrong = {
    "a password's file is in the store" = {
      bad = ./refused.nix;
      good = "/run/elsewhere/order_owner";
      module = file: { services.outbox-cdc.order.passwordFiles.order_owner = lib.mkForce file; };
    };
    "a credential of Kafka Connect is in the store" = {
      bad = "${pkgs.writeText "secret" "secret"}";
      good = "/run/elsewhere/order_cdc";
      module = file: { services.kafka-connect.credentials.order_cdc = lib.mkForce file; };
    };
    "another context's role may come from elsewhere" = {
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
    "a port is none" = {
      bad = 65536;
      good = 65535;
      module = port: { services.outbox-cdc.inventory.settings.database.port = port; };
    };
  };
  # What anybody may want.
  right = {
    "a password by reference within a JAAS configuration" = {
      services.kafka-connect.settings."sasl.jaas.config" =
        "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"connect\" password=\"\${dir:/run/credentials/kafka-connect.service:kafka}\";";
    };
    "a place to get tokens at" = {
      services.kafka-connect.settings."sasl.oauthbearer.token.endpoint.url" = "https://example.org/token";
    };
    "a client's certificate, and its key as a credential" = {
      services.outbox-cdc.order = {
        settings.database.sslcert = "/run/keys/order.pem";
        credentials."database.sslkey" = "/run/keys/order.key";
      };
    };
  };
  refuses =
    { says, ... }@mistake:
    let
      found = said (removeAttrs mistake [ "says" ]);
    in
    found != null && lib.any (lib.hasInfix says) found;
  failed =
    lib.attrNames (lib.filterAttrs (_: mistake: !(refuses mistake)) mistakes)
    ++ lib.attrNames (
      lib.filterAttrs (
        _:
        {
          bad,
          good,
          module,
        }:
        said (module bad) != null || said (module good) != [ ]
      ) wrong
    )
    ++ lib.attrNames (lib.filterAttrs (_: module: said module != [ ]) right);

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
    if said { } != [ ] then
      throw "the modules do not take the example itself"
    else if failed != [ ] then
      throw "the modules refuse or take what they must not: ${lib.concatStringsSep "; " failed}"
    else
      pkgs.runCommand "modules-refuse" { mistakes = lib.attrNames (mistakes // wrong); } ''
        printf 'refused: %s\n' "$mistakes" > $out
      '';

  # With all that its units name.
  example = pkgs.writeText "example.json" (builtins.toJSON (unitsOf example.config));
}
