# The worker: a JVM on Kafka's jars. Kafka's scripts would write logs to /tmp and take a heap of 2 GiB.
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
  accepted = import ../accepted.nix { inherit lib parts; };
  plaintextSecrets = import ./plaintext-secrets.nix { inherit lib; } cfg.settings;
  properties = pkgs.formats.javaProperties { };
  waitForKafka = import ./wait-for-kafka.nix { inherit lib pkgs; } cfg.settings."bootstrap.servers";
  noCredentials = import ./no-credentials.nix { inherit pkgs; };
  # DirectoryConfigProvider does not trim a file. A PEM key, which has several lines, may end in a newline.
  refuseNewlines = pkgs.writeShellScript "kafka-connect-credentials" ''
    set -eu
    for file in "$CREDENTIALS_DIRECTORY"/*; do
      if [ "$(${pkgs.coreutils}/bin/wc -l < "$file")" -eq 1 ] && [ -z "$(${pkgs.coreutils}/bin/tail -c 1 "$file")" ]; then
        echo "the credential ''${file##*/} ends in a newline, which Kafka Connect reads as part of the secret; write the file without the newline" >&2
        exit 1
      fi
    done
  '';
in
{
  options.services.kafka-connect = {
    enable = lib.mkEnableOption "a worker of Kafka Connect in distributed mode";

    package = mkOption {
      type = types.package;
      default = pkgs.apacheKafka;
      defaultText = lib.literalExpression "pkgs.apacheKafka";
      example = lib.literalExpression "pkgs.apacheKafka_4_2";
      description = "The package of Kafka, which contains Kafka Connect.";
    };

    jre = mkOption {
      type = types.package;
      default = cfg.package.passthru.jre;
      defaultText = lib.literalExpression "config.services.kafka-connect.package.passthru.jre";
      example = lib.literalExpression "pkgs.jdk21_headless";
      description = "The JRE that runs Kafka Connect.";
    };

    plugins = mkOption {
      type = types.listOf types.package;
      default = [ self.packages.${pkgs.stdenv.hostPlatform.system}.debezium-connector-postgres ];
      defaultText = lib.literalExpression "[ outbox-cdc.packages.\${system}.debezium-connector-postgres ]";
      example = lib.literalExpression "[ (pkgs.callPackage ./http-sink.nix { }) ]";
      description = ''
        The packages of the plugins: the entries of Kafka Connect's `plugin.path`. Each package contains one directory for
        each plugin, with the plugin's jars. A definition replaces the default, Debezium's connector for PostgreSQL.
      '';
    };

    maxHeapSize = mkOption {
      type = types.ints.positive;
      default = routes.heap.connect_mib;
      example = 1024;
      description = "The maximum heap size of the JVM (`-Xmx`), in MiB.";
    };

    jvmOptions = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "-XX:+UseG1GC" ];
      description = "Further command-line options of the JVM.";
    };

    log4j2Properties = mkOption {
      type = types.lines;
      default = builtins.readFile parts.log4j2;
      defaultText = lib.literalMD "to standard output, at the levels of the demo";
      example = "rootLogger.level=info";
      description = "The configuration of Log4j 2, as properties.";
    };

    listenAddress = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "0.0.0.0";
      description = ''
        The address that the REST API listens on. The API has no authentication: a client that reaches it can change
        connectors and run code.
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
      description = "Whether to open the port of the REST API in the firewall.";
    };

    credentials = mkOption {
      type = types.attrsOf types.externalPath;
      default = { };
      example = {
        order_cdc = "/run/keys/order_cdc";
      };
      description = ''
        The secrets, by name, each a file outside the store; a file of one line must not end in a newline. A connector or the
        worker's settings refer to a secret as `''${dir:/run/credentials/kafka-connect.service:NAME}`. Kafka Connect resolves
        the reference when it uses the value, so neither the store nor the REST API discloses the secret.
      '';
    };

    credentialsDirectory = mkOption {
      type = types.str;
      readOnly = true;
      default = "/run/credentials/kafka-connect.service";
      example = lib.literalExpression "config.services.kafka-connect.credentialsDirectory";
      description = "The directory in which the worker finds its `credentials`.";
    };

    groupId = mkOption {
      type = types.str;
      default = "connect";
      example = "connect-orders";
      description = "The `group.id` of the worker's group. The names of the group's three internal topics start with it.";
    };

    settings = mkOption {
      type = types.submodule {
        # Keeps the option's documented type short.
        freeformType = properties.type // {
          description = "Java property";
        };
        options = {
          "bootstrap.servers" = mkOption {
            type = types.coercedTo (types.listOf types.str) (lib.concatStringsSep ",") types.str;
            default = "127.0.0.1:${toString routes.ports.kafka_internal}";
            example = [
              "kafka1:9092"
              "kafka2:9092"
            ];
            description = "The brokers for the initial connection, as a string or a list.";
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
        The worker's configuration, by Kafka Connect's names. The defaults suit a single worker and a single broker, string
        keys and values, and plugins that Java's `ServiceLoader` finds. Set `key.converter` and `value.converter` for other
        formats, and `"plugin.discovery" = "HYBRID_WARN"` for plugins without a service manifest. Secrets are references to
        `credentials`.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      (accepted {
        part = "kafka";
        title = "Kafka";
        of = "services.kafka-connect";
        inherit (cfg) package;
        option = "services.kafka-connect.package";
      })
      {
        assertion = plaintextSecrets == [ ];
        message = "services.kafka-connect.settings: ${lib.concatStringsSep ", " plaintextSecrets} would be in the store; refer to one of services.kafka-connect.credentials";
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
      # The worker exits when it reaches no broker; systemd restarts it until one is up.
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = hardening.jvm // {
        ExecStartPre = lib.optional (cfg.credentials != { }) "${refuseNewlines}" ++ [ "${waitForKafka}" ];
        ExecStart = lib.concatStringsSep " " (
          [
            "${cfg.jre}/bin/java"
            "-Xms128m"
            "-Xmx${toString cfg.maxHeapSize}m"
            "-XX:+UseSerialGC"
            # Without memory a JVM goes on with whatever threads are left: it ends, and is restarted.
            "-XX:+ExitOnOutOfMemoryError"
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
        # The exit status of a JVM after SIGTERM.
        SuccessExitStatus = 143;
      };
    };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ cfg.port ];
  };
}
