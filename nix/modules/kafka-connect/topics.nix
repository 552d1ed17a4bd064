# The unit that creates the topics of the declared connectors, and gives those that exist the declared settings.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.kafka-connect;
  hardening = import ../hardening.nix;
  text = import ./text.nix { inherit lib; };
  properties = pkgs.formats.javaProperties { };
  waitForKafka = import ./wait-for-kafka.nix { inherit lib pkgs; } cfg.settings."bootstrap.servers";
  credentialsDirectory = "/run/credentials/kafka-connect-topics.service";

  # The worker's settings that any client of Kafka has, with the credentials of this unit.
  clientSettings =
    lib.mapAttrs (_: lib.replaceStrings [ cfg.credentialsDirectory ] [ credentialsDirectory ]) (
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
    // lib.optionalAttrs (credentials == { }) {
      "config.providers.dir.param.allowed.paths" = "${import ./no-credentials.nix { inherit pkgs; }}";
    };
  # Only the credentials that the worker's settings refer to; the unit needs those of no connector.
  credentials = lib.filterAttrs (
    name: _:
    lib.any (lib.hasInfix "${cfg.credentialsDirectory}:${name}}") (
      map text (lib.attrValues cfg.settings)
    )
  ) cfg.credentials;

  # A folder for each topic: the arguments of kafka-topics.sh, one a line, the settings as kafka-configs.sh takes them, and the numbers of
  # partitions and replicas as kafka-topics.sh shows them.
  topics = pkgs.runCommand "kafka-connect-topics" { nativeBuildInputs = [ pkgs.jq ]; } ''
    mkdir $out
    shopt -s nullglob
    for file in ${cfg.connectorsDirectory}/*.json; do
      jq -c '.topics // [] | .[]' "$file"
    done | while read -r topic; do
      folder="$out/$(jq -r .name <<< "$topic")"
      mkdir -p "$folder"
      jq -r '
        "--topic", .name, "--partitions", .partitions, "--replication-factor", .replication_factor,
        (.config // {} | to_entries[] | "--config", "\(.key)=\(.value)")' <<< "$topic" > "$folder/create"
      jq -r '
        [.config // {} | to_entries[] | "\(.key)=" + (.value | tostring | if contains(",") then "[\(.)]" else . end)] | join(",")
      ' <<< "$topic" > "$folder/settings"
      jq -r '"PartitionCount: \(.partitions) ReplicationFactor: \(.replication_factor)"' <<< "$topic" > "$folder/shape"
    done
  '';
  applyTopics = pkgs.writeShellApplication {
    name = "kafka-connect-topics";
    runtimeInputs = [
      cfg.package
      pkgs.coreutils
      pkgs.gnused
    ];
    text = ''
      # Each command takes a JVM, which must start fast and does little.
      export KAFKA_HEAP_OPTS=-Xmx128m KAFKA_JVM_PERFORMANCE_OPTS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
      shopt -s nullglob
      client=(
        --bootstrap-server ${lib.escapeShellArg cfg.settings."bootstrap.servers"}
        --command-config ${properties.generate "kafka-connect-client.properties" clientSettings}
      )
      rm -f "$RUNTIME_DIRECTORY/created"
      differs=
      for topic in ${topics}/*; do
        name=$(basename "$topic")
        mapfile -t arguments < "$topic/create"
        kafka-topics.sh "''${client[@]}" --create --if-not-exists "''${arguments[@]}"
        needed=$(< "$topic/shape")
        found=$(kafka-topics.sh "''${client[@]}" --describe --topic "$name" |
          sed -En 's/.*\t(PartitionCount: [0-9]+)\t(ReplicationFactor: [0-9]+)\t.*/\1 \2/p')
        if [ "$found" != "$needed" ]; then
          # Settings such as min.insync.replicas fit the declared replicas alone.
          echo "topic $name: declared is $needed, and it has $found; nothing of it is changed. Kafka removes no partition, and further" \
            "ones move keys: make the topic again once it is read, change its replicas with kafka-reassign-partitions.sh, or declare" \
            "what it has" >&2
          differs=1
          continue
        fi
        settings=$(< "$topic/settings")
        if [ -n "$settings" ]; then
          kafka-configs.sh "''${client[@]}" --alter --entity-type topics --entity-name "$name" --add-config "$settings"
        fi
      done
      touch "$RUNTIME_DIRECTORY/created"
      if [ -n "$differs" ]; then
        # The connectors go on; the unit shows as failed.
        exit ${toString differs}
      fi
    '';
  };
  # The exit code when a topic is not as declared: another attempt would find the same.
  differs = 3;
in
{
  config = lib.mkIf (cfg.enable && cfg.reconciler.enable) {
    systemd.services.kafka-connect-topics = {
      description = "Topics of Kafka Connect's connectors";
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
        # The reconciler waits for the file in it, also after a failure.
        RuntimeDirectoryPreserve = true;
        ExecStartPre = "${waitForKafka}";
        ExecStart = lib.getExe applyTopics;
        User = "kafka-connect";
        Group = "kafka-connect";
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") credentials;
        Restart = "on-failure";
        RestartSec = "5s";
        RestartPreventExitStatus = differs;
      };
    };
  };
}
