# A single-node Kafka cluster, by nixpkgs' own module: a broker and controller that loses no acknowledged message.
{ parts, ... }:
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  inherit (parts.routes) ports heap;
  cfg = config.services.outbox-cdc.broker;
  address = import ./kafka-connect/address.nix { inherit lib; };
  accepted = import ./accepted.nix { inherit lib parts; };
  loopback = port: "127.0.0.1:${toString port}";
  isLoopback = host: host == "::1" || host == "localhost" || lib.hasPrefix "127." host;
in
{
  options.services.outbox-cdc.broker = {
    enable = lib.mkEnableOption "a single Kafka broker by `services.apache-kafka`, which flushes every batch to disk before it acknowledges it";

    listenAddress = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "0.0.0.0";
      description = "The address that the broker listens on for clients, at port ${toString ports.kafka}, without authentication or encryption. Local clients can also use port ${toString ports.kafka_internal} on the loopback address.";
    };

    advertisedHost = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "kafka.example.org";
      description = "The host in `advertised.listeners`: the name or address at which clients on other machines reach the broker.";
    };

    clusterId = mkOption {
      type = types.str;
      default = "b3V0Ym94LWNkYy1kZW1vMQ";
      example = "4L6g3nShT-eMCtK--X86sw";
      description = "The cluster id, 16 bytes in base64url, with which the storage is formatted.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether to open port ${toString ports.kafka} in the firewall.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      (accepted {
        part = "kafka";
        title = "Kafka";
        of = "services.outbox-cdc.broker";
        inherit (config.services.apache-kafka) package;
        option = "services.apache-kafka.package";
      })
      {
        assertion = isLoopback cfg.advertisedHost -> isLoopback cfg.listenAddress && !cfg.openFirewall;
        message = "services.outbox-cdc.broker.advertisedHost: `${cfg.advertisedHost}` sends clients on other machines to themselves; set the name or address at which they reach the broker";
      }
    ];

    services.apache-kafka = {
      enable = true;
      inherit (cfg) clusterId;
      formatLogDirs = true;
      formatLogDirsIgnoreFormatted = true;
      jvmOptions = [
        "-Xms128m"
        "-Xmx${toString heap.broker_mib}m"
        "-XX:+UseSerialGC"
        "-XX:+ExitOnOutOfMemoryError"
        # The option of nixpkgs' module configures Log4j 1; Kafka 4 has Log4j 2.
        "-Dlog4j2.configurationFile=file:${parts.log4j2}"
      ];
      settings = lib.mapAttrs (_: lib.mkDefault) (
        parts.broker
        // {
          "node.id" = 1;
          "controller.quorum.voters" = [ "1@${loopback ports.kafka_controller}" ];
          listeners = [
            "INTERNAL://${loopback ports.kafka_internal}"
            "EXTERNAL://${address.host cfg.listenAddress}:${toString ports.kafka}"
            "CONTROLLER://${loopback ports.kafka_controller}"
          ];
          "advertised.listeners" = [
            "INTERNAL://${loopback ports.kafka_internal}"
            "EXTERNAL://${address.host cfg.advertisedHost}:${toString ports.kafka}"
          ];
          "listener.security.protocol.map" = [
            "INTERNAL:PLAINTEXT"
            "EXTERNAL:PLAINTEXT"
            "CONTROLLER:PLAINTEXT"
          ];
          "log.dirs" = [ "/var/lib/apache-kafka" ];
        }
      );
    };

    # nixpkgs' module does not restart a failed broker.
    systemd.services.apache-kafka.serviceConfig = {
      Restart = lib.mkDefault "on-failure";
      RestartSec = lib.mkDefault "2s";
    };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ ports.kafka ];
  };
}
