# The declared connectors.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.kafka-connect;
  plaintextSecrets = import ./plaintext-secrets.nix { inherit lib; };
  secretsOfConnectors = lib.concatLists (
    lib.mapAttrsToList (
      name: { config, ... }: map (key: "${name}: ${key}") (plaintextSecrets config)
    ) cfg.connectors
  );
  directory = import ./connectors-directory.nix { inherit lib pkgs; } {
    inherit (cfg)
      connectors
      connectorFiles
      credentials
      credentialsDirectory
      ;
  };

  properties = types.attrsOf (
    types.oneOf [
      types.bool
      types.int
      types.str
    ]
  );
  topic = types.submodule {
    options = {
      partitions = mkOption {
        type = types.ints.positive;
        default = 1;
        example = 6;
        description = "The number of partitions.";
      };
      replicationFactor = mkOption {
        type = types.ints.positive;
        default = 1;
        example = 3;
        description = "The number of brokers that hold each partition.";
      };
      config = mkOption {
        type = properties;
        default = { };
        example = {
          "retention.ms" = 604800000;
        };
        description = "The topic's configuration, by Kafka's names.";
      };
    };
  };
  connector = types.submodule {
    options = {
      config = mkOption {
        type = properties;
        example = {
          "connector.class" = "io.debezium.connector.postgresql.PostgresConnector";
          "database.password" = "\${dir:/run/credentials/kafka-connect.service:cdc}";
        };
        description = "The connector's configuration, by the names that Kafka Connect and the plugin document. Secrets are references to `credentials`.";
      };
      state = mkOption {
        type = types.enum [
          "running"
          "paused"
          "stopped"
        ];
        default = "running";
        example = "paused";
        description = "The state that the reconciler keeps the connector in, also if an operator changes it in Kafka Connect.";
      };
      topics = mkOption {
        type = types.attrsOf topic;
        default = { };
        example = {
          order.partitions = 6;
        };
        description = "The topics that the connector writes to. Before the connector, missing ones are created and those that exist are given the declared configuration; partitions and replicas of an existing topic are never changed, and a difference fails the unit `kafka-connect-topics`.";
      };
    };
  };
in
{
  options.services.kafka-connect = {
    connectors = mkOption {
      type = types.attrsOf connector;
      default = { };
      example = lib.literalExpression ''
        {
          heartbeat.config = {
            "connector.class" = "org.apache.kafka.connect.mirror.MirrorHeartbeatConnector";
            "source.cluster.alias" = "here";
            "target.cluster.alias" = "there";
          };
        }
      '';
      description = ''
        The connectors, by name. The reconciler creates a connector, updates it when its declaration changes, deletes it when
        its declaration is removed, keeps it in its declared state, and restarts it, with exponential backoff, when it or one
        of its tasks has failed. It leaves alone every connector that was created by other means.
      '';
    };

    connectorFiles = mkOption {
      type = types.listOf types.path;
      default = [ ];
      example = lib.literalExpression "[ config.services.outbox-cdc.order.connector ]";
      description = ''
        Further connectors, each a JSON file in the store with the keys `name`, `config` and, optionally, `state` (`running`,
        `paused` or `stopped`) and `topics` (a list of objects with `name`, `partitions`, `replication_factor` and `config`).
      '';
    };

    connectorsDirectory = mkOption {
      type = types.package;
      readOnly = true;
      default = directory;
      defaultText = lib.literalMD "generated from `connectors` and `connectorFiles`";
      example = lib.literalExpression "config.services.kafka-connect.connectorsDirectory";
      description = "The directory with a JSON file for each declared connector.";
    };
  };

  config.assertions = lib.mkIf (cfg.enable && cfg.reconciler.enable) [
    {
      assertion = secretsOfConnectors == [ ];
      message = "services.kafka-connect.connectors: ${lib.concatStringsSep ", " secretsOfConnectors} would be in the store and in answers of the REST API; refer to one of services.kafka-connect.credentials";
    }
  ];
}
