# Connectors as declared: their topics made, they themselves kept by the reconciler.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.kafka-connect;
  hardening = import ../hardening.nix;
  properties = pkgs.formats.javaProperties { };
  address = import ./address.nix { inherit lib; };
  plainOf = import ./plain.nix { inherit lib; };
  url = "http://${address.local cfg.listenAddress}:${toString cfg.port}";

  value = types.oneOf [
    types.bool
    types.int
    types.str
  ];
  # Kafka Connect knows text alone.
  text = value: if lib.isBool value then lib.boolToString value else toString value;

  file =
    name: connector:
    pkgs.writeText "${lib.strings.sanitizeDerivationName name}.json" (
      builtins.toJSON {
        inherit name;
        config = lib.mapAttrs (_: text) connector.config;
        topics = lib.mapAttrsToList (name: topic: {
          inherit name;
          inherit (topic) partitions;
          replication_factor = topic.replicationFactor;
          config = lib.mapAttrs (_: text) topic.config;
        }) connector.topics;
      }
    );
  files = lib.mapAttrsToList file cfg.connectors ++ cfg.connectorFiles;

  # All of them in one folder, once each is found to be a connector that refers to credentials that are there, and no two are
  # of one name.
  folder = pkgs.runCommand "kafka-connect-connectors" { nativeBuildInputs = [ pkgs.jq ]; } ''
    mkdir $out
    for file in ${lib.escapeShellArgs files}; do
      name=$(jq -er 'if (.name | type) == "string" and (.config | type) == "object" then .name else error("no connector") end' "$file")
      if [ -e "$out/$name.json" ]; then
        echo "connector $name is declared twice" >&2
        exit 1
      fi
      # Kafka Connect would log in with the reference itself.
      jq -r --arg folder ${cfg.credentialsDirectory} '
        .config[] | strings | scan("[$][{]dir:([^:}]+):([^}]+)[}]") | select(.[0] == $folder) | .[1]' "$file" > names
      while read -r credential; do
        if [[ " ${toString (lib.attrNames cfg.credentials)} " != *" $credential "* ]]; then
          echo "connector $name refers to the credential $credential, which is not among services.kafka-connect.credentials" >&2
          exit 1
        fi
      done < names
      ln -s "$file" "$out/$name.json"
    done
  '';

  # Only what a client of Kafka knows too; secrets are found where its own unit has them.
  clientSettings =
    lib.mapAttrs (_: lib.replaceStrings [ cfg.credentialsDirectory ] [ topicsCredentials ]) (
      lib.filterAttrs (
        name: _:
        lib.any (prefix: lib.hasPrefix prefix name) [
          "security."
          "sasl."
          "ssl."
          "config.providers"
        ]
      ) cfg.settings
    )
    // lib.optionalAttrs (topicsSecrets == { }) {
      "config.providers.dir.param.allowed.paths" = "${import ./no-credentials.nix { inherit pkgs; }}";
    };
  # Those that they refer to; no connector's.
  topicsSecrets = lib.filterAttrs (
    name: _:
    lib.any (lib.hasInfix "${cfg.credentialsDirectory}:${name}}") (
      map text (lib.attrValues cfg.settings)
    )
  ) cfg.credentials;
  topicsCredentials = "/run/credentials/kafka-connect-topics.service";
  # A file for each topic, with an argument a line.
  topics = pkgs.runCommand "kafka-connect-topics" { nativeBuildInputs = [ pkgs.jq ]; } ''
    mkdir $out
    shopt -s nullglob
    for file in ${folder}/*.json; do
      jq -c '.topics // [] | .[]' "$file"
    done | while read -r topic; do
      jq -r '
        "--topic", .name, "--partitions", .partitions, "--replication-factor", .replication_factor,
        (.config // {} | to_entries[] | "--config", "\(.key)=\(.value)")' <<< "$topic" > "$out/$(jq -r .name <<< "$topic")"
    done
  '';
  makeTopics = pkgs.writeShellApplication {
    name = "kafka-connect-topics";
    runtimeInputs = [ cfg.package ];
    text = ''
      # A JVM for each topic, which is to start fast and does little.
      export KAFKA_HEAP_OPTS=-Xmx128m KAFKA_JVM_PERFORMANCE_OPTS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
      shopt -s nullglob
      for topic in ${topics}/*; do
        mapfile -t arguments < "$topic"
        kafka-topics.sh --bootstrap-server ${lib.escapeShellArg cfg.settings."bootstrap.servers"} \
          --command-config ${properties.generate "kafka-connect-client.properties" clientSettings} \
          --create --if-not-exists "''${arguments[@]}"
      done
      touch "$RUNTIME_DIRECTORY/made"
    '';
  };
  awaitKafka = import ./await-kafka.nix { inherit lib pkgs; } cfg.settings."bootstrap.servers";
  awaitTopics = pkgs.writeShellScript "kafka-connect-topics-made" ''
    until [ -e /run/kafka-connect-topics/made ]; do
      ${pkgs.coreutils}/bin/sleep 0.5
    done
  '';

  plain = lib.concatLists (
    lib.mapAttrsToList (
      name: { config, ... }: map (key: "${name}: ${key}") (plainOf config)
    ) cfg.connectors
  );
in
{
  options.services.kafka-connect = {
    connectors = mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            config = mkOption {
              type = types.attrsOf value;
              example = {
                "connector.class" = "io.debezium.connector.postgresql.PostgresConnector";
                "database.password" = "\${dir:/run/credentials/kafka-connect.service:cdc}";
              };
              description = "The connector's configuration, as Kafka Connect takes it; secrets by reference to `credentials`.";
            };
            topics = mkOption {
              type = types.attrsOf (
                types.submodule {
                  options = {
                    partitions = mkOption {
                      type = types.ints.positive;
                      default = 1;
                      example = 6;
                      description = "How many partitions it has.";
                    };
                    replicationFactor = mkOption {
                      type = types.ints.positive;
                      default = 1;
                      example = 3;
                      description = "How many brokers have each partition.";
                    };
                    config = mkOption {
                      type = types.attrsOf value;
                      default = { };
                      example = {
                        "retention.ms" = 604800000;
                      };
                      description = "The topic's settings, in Kafka's own words.";
                    };
                  };
                }
              );
              default = { };
              example = {
                order.partitions = 6;
              };
              description = "Topics that the connector writes to, made before it if they are not there; one that is there stays as it is.";
            };
          };
        }
      );
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
        Connectors by name. What is declared is kept: a connector is made, changed when its declaration changes, removed when
        that is gone, and restarted, with growing pauses, when it or a task of it has failed. Connectors that somebody else
        made are left alone.
      '';
    };

    connectorFiles = mkOption {
      type = types.listOf types.path;
      default = [ ];
      example = lib.literalExpression "[ config.services.outbox-cdc.order.connector ]";
      description = ''
        Further connectors, each a JSON file in the store with `name`, `config` and perhaps `topics` (`name`, `partitions`,
        `replication_factor`, `config`).
      '';
    };

    connectorsFolder = mkOption {
      type = types.package;
      readOnly = true;
      default = folder;
      defaultText = lib.literalMD "made from `connectors` and `connectorFiles`";
      example = lib.literalExpression "config.services.kafka-connect.connectorsFolder";
      description = "The folder with the declaration of every connector.";
    };

    reconciler = {
      enable = mkOption {
        type = types.bool;
        default = true;
        example = false;
        description = "Whether this machine keeps the connectors. Where several workers share a group, one of them does.";
      };
      package = mkOption {
        type = types.package;
        default = self.packages.${pkgs.stdenv.hostPlatform.system}.connect;
        defaultText = lib.literalExpression "outbox-cdc.packages.\${system}.connect";
        example = lib.literalExpression "pkgs.callPackage ./connect.nix { }";
        description = "The package of the reconciler.";
      };
      owner = mkOption {
        type = types.strMatching "[A-Za-z0-9_.-]+";
        default = "nixos";
        example = "nixos-orders";
        description = "The mark by which the reconciler knows the connectors that are its own.";
      };
    };
  };

  config = lib.mkIf (cfg.enable && cfg.reconciler.enable) {
    assertions = [
      {
        assertion = plain == [ ];
        message = "services.kafka-connect.connectors: ${lib.concatStringsSep ", " plain} would be in the store and in answers of the REST API; refer to one of services.kafka-connect.credentials";
      }
    ];

    users.users.kafka-connect-connectors = {
      isSystemUser = true;
      group = "kafka-connect-connectors";
      description = "keeper of Kafka Connect's connectors";
    };
    users.groups.kafka-connect-connectors = { };

    systemd.services.kafka-connect-topics = {
      description = "topics of Kafka Connect's connectors";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "apache-kafka.service"
      ];
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = hardening.jvm // {
        Type = "oneshot";
        RemainAfterExit = true;
        RuntimeDirectory = "kafka-connect-topics";
        ExecStartPre = "${awaitKafka}";
        ExecStart = lib.getExe makeTopics;
        User = "kafka-connect";
        Group = "kafka-connect";
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") topicsSecrets;
        Restart = "on-failure";
        RestartSec = "5s";
      };
    };

    systemd.services.kafka-connect-connectors = {
      description = "connectors of Kafka Connect";
      wantedBy = [ "multi-user.target" ];
      wants = [ "kafka-connect-topics.service" ];
      after = [
        "kafka-connect.service"
        "kafka-connect-topics.service"
      ];
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = hardening.service // {
        # By a link: a folder that is about to be replaced is read as it was or as it will be, never half.
        RuntimeDirectory = "kafka-connect-connectors";
        ExecStartPre = [
          # Its own order is that of the first try alone.
          "${awaitTopics}"
          "${pkgs.coreutils}/bin/ln -sfn ${folder} %t/kafka-connect-connectors/declared"
        ];
        ExecStart = "${lib.getExe cfg.reconciler.package} --url ${url} reconcile --owner ${cfg.reconciler.owner} %t/kafka-connect-connectors/declared";
        User = "kafka-connect-connectors";
        Group = "kafka-connect-connectors";
        Restart = "on-failure";
        RestartSec = "2s";
      };
    };
  };
}
