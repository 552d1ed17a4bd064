# The unit that creates the missing topics of the declared connectors.
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

  # A file for each topic, with one argument of kafka-topics.sh on each line.
  topics = pkgs.runCommand "kafka-connect-topics" { nativeBuildInputs = [ pkgs.jq ]; } ''
    mkdir $out
    shopt -s nullglob
    for file in ${cfg.connectorsDirectory}/*.json; do
      jq -c '.topics // [] | .[]' "$file"
    done | while read -r topic; do
      jq -r '
        "--topic", .name, "--partitions", .partitions, "--replication-factor", .replication_factor,
        (.config // {} | to_entries[] | "--config", "\(.key)=\(.value)")' <<< "$topic" > "$out/$(jq -r .name <<< "$topic")"
    done
  '';
  createTopics = pkgs.writeShellApplication {
    name = "kafka-connect-topics";
    runtimeInputs = [ cfg.package ];
    text = ''
      # Each topic takes a JVM, which must start fast and does little.
      export KAFKA_HEAP_OPTS=-Xmx128m KAFKA_JVM_PERFORMANCE_OPTS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
      shopt -s nullglob
      for topic in ${topics}/*; do
        mapfile -t arguments < "$topic"
        kafka-topics.sh --bootstrap-server ${lib.escapeShellArg cfg.settings."bootstrap.servers"} \
          --command-config ${properties.generate "kafka-connect-client.properties" clientSettings} \
          --create --if-not-exists "''${arguments[@]}"
      done
      touch "$RUNTIME_DIRECTORY/created"
    '';
  };
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
        ExecStartPre = "${waitForKafka}";
        ExecStart = lib.getExe createTopics;
        User = "kafka-connect";
        Group = "kafka-connect";
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") credentials;
        Restart = "on-failure";
        RestartSec = "5s";
      };
    };
  };
}
