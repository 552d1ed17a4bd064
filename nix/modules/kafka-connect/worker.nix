# The worker: a JVM over Kafka's own jars, without Kafka's scripts, which write logs to /tmp and take 2 GiB.
{ self, parts }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  inherit (parts) routes;
  cfg = config.services.kafka-connect;
  hardening = import ../hardening.nix;
  address = import ./address.nix { inherit lib; };
  plain = import ./plain.nix { inherit lib; } cfg.settings;
  properties = pkgs.formats.javaProperties { };
  awaitKafka = import ./await-kafka.nix { inherit lib pkgs; } cfg.settings."bootstrap.servers";
  noCredentials = import ./no-credentials.nix { inherit pkgs; };
  # DirectoryConfigProvider takes a file as it is; keys in PEM, of several lines, end as they like.
  refuseNewlines = pkgs.writeShellScript "kafka-connect-credentials" ''
    set -eu
    for file in "$CREDENTIALS_DIRECTORY"/*; do
      if [ "$(${pkgs.coreutils}/bin/wc -l < "$file")" -eq 1 ] && [ -z "$(${pkgs.coreutils}/bin/tail -c 1 "$file")" ]; then
        echo "the credential ''${file##*/} ends in a newline, which Kafka Connect takes for a part of the secret; write the file without it" >&2
        exit 1
      fi
    done
  '';
in
{
  options.services.kafka-connect = {
    enable = lib.mkEnableOption "a worker of Kafka Connect, in distributed mode";

    package = mkOption {
      type = types.package;
      default = pkgs.apacheKafka;
      defaultText = lib.literalExpression "pkgs.apacheKafka";
      example = lib.literalExpression "pkgs.apacheKafka_4_2";
      description = "The Kafka whose Connect runs.";
    };

    jre = mkOption {
      type = types.package;
      default = cfg.package.passthru.jre;
      defaultText = lib.literalExpression "config.services.kafka-connect.package.passthru.jre";
      example = lib.literalExpression "pkgs.jdk21_headless";
      description = "The JRE that it runs on.";
    };

    plugins = mkOption {
      type = types.listOf types.package;
      default = [ self.packages.${pkgs.stdenv.hostPlatform.system}.debezium-connector-postgres ];
      defaultText = lib.literalExpression "[ outbox-cdc.packages.\${system}.debezium-connector-postgres ]";
      example = lib.literalExpression "[ pkgs.my-connector ]";
      description = "Packages of plugins, each with a folder for each of its plugins.";
    };

    heap = mkOption {
      type = types.ints.positive;
      default = routes.heap.connect_mib;
      example = 1024;
      description = "The largest heap, in MiB.";
    };

    jvmOptions = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "-XX:+UseG1GC" ];
      description = "Further options of the JVM.";
    };

    log4j2Properties = mkOption {
      type = types.lines;
      default = builtins.readFile parts.log4j2;
      defaultText = lib.literalMD "to standard output, what is worth a look";
      example = "rootLogger.level=info";
      description = "What is logged, and where, in log4j 2's properties.";
    };

    listenAddress = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "0.0.0.0";
      description = ''
        Where the REST API listens. It asks nobody who he is: whoever reaches it may change connectors and run code.
      '';
    };

    port = mkOption {
      type = types.port;
      default = routes.ports.connect;
      example = 8084;
      description = "The port of the REST API.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether other machines may reach the REST API.";
    };

    credentials = mkOption {
      type = types.attrsOf types.externalPath;
      default = { };
      example = {
        order_cdc = "/run/keys/order_cdc";
      };
      description = ''
        Secrets, each a file outside the store; one of a single line has no newline at its end. A connector, or the worker's
        own settings, refer to one as `''${dir:/run/credentials/kafka-connect.service:NAME}`; Kafka Connect puts the secret in its place when
        it uses it, so that neither the store nor an answer of the REST API has it.
      '';
    };

    credentialsDirectory = mkOption {
      type = types.str;
      readOnly = true;
      default = "/run/credentials/kafka-connect.service";
      example = lib.literalExpression "config.services.kafka-connect.credentialsDirectory";
      description = "The folder in which the worker finds `credentials`.";
    };

    groupId = mkOption {
      type = types.str;
      default = "connect";
      example = "connect-orders";
      description = "The group of workers that share their connectors. The topics that they keep them in are named after it.";
    };

    settings = mkOption {
      type = types.submodule {
        freeformType = properties.type;
        options = {
          "bootstrap.servers" = mkOption {
            type = types.coercedTo (types.listOf types.str) (lib.concatStringsSep ",") types.str;
            default = "127.0.0.1:${toString routes.ports.kafka_internal}";
            example = [
              "kafka1:9092"
              "kafka2:9092"
            ];
            description = "Where Kafka is.";
          };
        };
      };
      default = { };
      example = {
        "bootstrap.servers" = "kafka:9092";
        "config.storage.replication.factor" = 3;
        "offset.storage.replication.factor" = 3;
        "status.storage.replication.factor" = 3;
      };
      description = ''
        The worker's settings. The defaults are those of a lone worker beside a single broker, of connectors whose keys and
        values are text, and of plugins that Java's `ServiceLoader` finds: others want `key.converter`, `value.converter`, or
        `"plugin.discovery" = "HYBRID_WARN"`. Secrets come from `credentials`.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = parts.accepted.kafka cfg.package.version;
        message = "services.kafka-connect: Kafka ${cfg.package.version} is not accepted (from ${lib.head routes.accepted.kafka}, below ${lib.last routes.accepted.kafka}); see services.kafka-connect.package";
      }
      {
        assertion = plain == [ ];
        message = "services.kafka-connect.settings: ${lib.concatStringsSep ", " plain} would be in the store; refer to one of services.kafka-connect.credentials";
      }
    ];

    services.kafka-connect.settings = lib.mapAttrs (_: lib.mkDefault) (
      parts.worker
      // {
        "group.id" = cfg.groupId;
        "offset.storage.topic" = "${cfg.groupId}-offsets";
        "config.storage.topic" = "${cfg.groupId}-configs";
        "status.storage.topic" = "${cfg.groupId}-status";
        listeners = "http://${address.host cfg.listenAddress}:${toString cfg.port}";
        "rest.advertised.host.name" =
          if
            lib.elem cfg.listenAddress [
              "0.0.0.0"
              "::"
            ]
          then
            config.networking.hostName
          else
            cfg.listenAddress;
        "rest.advertised.port" = cfg.port;
        "plugin.path" = lib.concatMapStringsSep "," toString cfg.plugins;
        "config.providers.dir.param.allowed.paths" =
          if cfg.credentials == { } then "${noCredentials}" else cfg.credentialsDirectory;
      }
    );

    users.users.kafka-connect = {
      isSystemUser = true;
      group = "kafka-connect";
      description = "Kafka Connect";
    };
    users.groups.kafka-connect = { };

    systemd.services.kafka-connect = {
      description = "Kafka Connect";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "apache-kafka.service"
      ];
      # The worker ends when no broker answers; one that comes late is waited for.
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = hardening.jvm // {
        ExecStartPre = lib.optional (cfg.credentials != { }) "${refuseNewlines}" ++ [ "${awaitKafka}" ];
        ExecStart = lib.concatStringsSep " " (
          [
            "${cfg.jre}/bin/java"
            "-Xms128m"
            "-Xmx${toString cfg.heap}m"
            "-XX:+UseSerialGC"
            "-Dlog4j2.configurationFile=file:${pkgs.writeText "log4j2.properties" cfg.log4j2Properties}"
          ]
          ++ cfg.jvmOptions
          ++ [
            "-cp"
            "${cfg.package}/libs/*"
            "org.apache.kafka.connect.cli.ConnectDistributed"
            "${properties.generate "kafka-connect.properties" cfg.settings}"
          ]
        );
        User = "kafka-connect";
        Group = "kafka-connect";
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") cfg.credentials;
        Restart = "on-failure";
        RestartSec = "5s";
        # What a JVM says when it is asked to end.
        SuccessExitStatus = 143;
      };
    };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ cfg.port ];
  };
}
