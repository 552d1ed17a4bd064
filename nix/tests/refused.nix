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
    "a secret's name goes on after the word" = {
      says = "plain: aws.secret.access.key.id would be in the store";
      services.kafka-connect.connectors.plain.config."aws.secret.access.key.id" = "secret";
    };
    "a password is in a service's settings" = {
      says = "services.outbox-cdc.order.settings: sasl.password would be in the store";
      services.outbox-cdc.order.settings.kafka.properties."sasl.password" = "secret";
    };
    "a password is in the connector of a service" = {
      says = "services.outbox-cdc.order.settings: connector.password would be in the store";
      services.outbox-cdc.order.settings.connector.password = "secret";
    };
    "a service listens at no port" = {
      says = "`0.0.0.0` has no port at its end";
      services.outbox-cdc.order.settings.http.listen = "0.0.0.0";
      services.outbox-cdc.order.openFirewall = true;
    };
    "a broker sends others to themselves" = {
      says = "`127.0.0.1` sends services on other machines to themselves";
      services.outbox-cdc.broker.listenAddress = "0.0.0.0";
    };
    "the rules of access are overridden" = {
      says = "its access rules are not in services.postgresql.authentication";
      services.postgresql.authentication = lib.mkForce "host all all 127.0.0.1/32 trust";
    };
    "the write-ahead log says too little" = {
      says = "wal_level is not `logical`";
      services.postgresql.settings.wal_level = "replica";
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
    "a client's address has no mask" = {
      bad = "192.0.2.7";
      good = "192.0.2.7/32";
      module = address: { services.outbox-cdc.order.database.clients = [ { inherit address; } ]; };
    };
    "no role at all may come from elsewhere" = {
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
    "a port is none" = {
      bad = 65536;
      good = 65535;
      module = port: { services.outbox-cdc.inventory.settings.database.port = port; };
    };
  };
  # None of the files is where the settings are built.
  tls = {
    services.outbox-cdc.order = {
      settings = {
        database = {
          sslmode = "verify-full";
          sslrootcert = "/run/keys/authority.pem";
          sslcert = "/run/keys/order.pem";
        };
        kafka.properties = {
          "security.protocol" = "SSL";
          "ssl.ca.location" = "/run/keys/authority.pem";
          "ssl.certificate.location" = "/run/keys/order.pem";
        };
      };
      credentials = {
        "database.sslkey" = "/run/keys/order.key";
        "kafka.property_files.ssl.key.pem" = "/run/keys/order.key";
      };
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
    "a provider of secrets, called so" = {
      services.kafka-connect.settings = {
        "config.providers" = "dir,secrets";
        "config.providers.secrets.class" = "org.example.Secrets";
      };
    };
    "a database that is made and migrated elsewhere" = {
      services.outbox-cdc.order = {
        database.createLocally = lib.mkForce false;
        migrations.enable = false;
        passwordFiles.order_owner = null;
      };
    };
    "TLS to both, with the machine's own files" = tls;
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

  # What a module says of what it finds wrong only when it builds it.
  saidOf =
    package:
    package.overrideAttrs (build: {
      name = "said-of-${build.name}";
      module = build.buildCommand;
      buildCommand = ''
        if bash -euc "$module" 2> said; then
          echo "the module takes what it must refuse" >&2
          exit 1
        fi
        rm -rf $out
        mv said $out
      '';
    });
  settingsOf = module: (with' module).services.outbox-cdc.order.settingsFile;
  saidOfSettings =
    settings:
    saidOf (settingsOf {
      services.outbox-cdc.order = { inherit settings; };
    });
  saidOfConnectors =
    credentials:
    saidOf
      (with' { services.kafka-connect.credentials = lib.mkForce credentials; })
      .services.kafka-connect.connectorsFolder;
in
{
  settings-refuse = pkgs.runCommand "settings-refuse" { } ''
    grep -F 'did you mean kafka.max_batch' ${saidOfSettings { kafka.max_bacth = 7; }}
    grep -F database.max_connections ${saidOfSettings { database.max_connections = "many"; }}
    grep -F verify-full ${saidOfSettings { database.sslrootcert = "/run/keys/authority.pem"; }}
    grep -F verify-full ${settingsOf tls}
    touch $out
  '';

  connectors-refuse = pkgs.runCommand "connectors-refuse" { } ''
    grep -F 'inventory-outbox refers to the credential inventory_cdc' ${
      saidOfConnectors { order_cdc = "/run/secrets/order_cdc"; }
    }
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
