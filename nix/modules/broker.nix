# Kafka on one machine, by nixpkgs' own module: a broker that is its own controller and loses nothing it acknowledged.
{ parts, ... }:
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  inherit (parts.routes) ports heap;
  cfg = config.services.outbox-cdc.broker;
  address = import ./kafka-connect/address.nix { inherit lib; };
  loopback = port: "127.0.0.1:${toString port}";
  isLoopback = host: host == "::1" || host == "localhost" || lib.hasPrefix "127." host;
in
{
  options.services.outbox-cdc.broker = {
    enable = lib.mkEnableOption "a single Kafka broker, by `services.apache-kafka` with the settings that a lone broker needs: every batch is on disk before it is acknowledged";

    listenAddress = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "0.0.0.0";
      description = "Where services reach the broker, at port ${toString ports.kafka}, which asks nobody who he is and encrypts nothing. What is on the broker's own machine has port ${toString ports.kafka_internal} on loopback besides.";
    };

    advertisedHost = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "kafka.example.org";
      description = "The name or address by which services on other machines find the broker.";
    };

    clusterId = mkOption {
      type = types.str;
      default = "b3V0Ym94LWNkYy1kZW1vMQ";
      example = "4L6g3nShT-eMCtK--X86sw";
      description = "The cluster's identity, 16 bytes in base64url, given to its storage when that is made.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether other machines may reach the port for services.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = parts.accepted.kafka config.services.apache-kafka.package.version;
        message = "services.outbox-cdc.broker: Kafka ${config.services.apache-kafka.package.version} is not accepted (from ${lib.head parts.routes.accepted.kafka}, below ${lib.last parts.routes.accepted.kafka}); see services.apache-kafka.package";
      }
      {
        assertion = isLoopback cfg.advertisedHost -> isLoopback cfg.listenAddress && !cfg.openFirewall;
        message = "services.outbox-cdc.broker.advertisedHost: `${cfg.advertisedHost}` sends services on other machines to themselves; give the name or address by which they find the broker";
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
        # The module's own option is for log4j 1; Kafka 4 has log4j 2.
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

    # The module leaves a broker that died as it is.
    systemd.services.apache-kafka.serviceConfig = {
      Restart = lib.mkDefault "on-failure";
      RestartSec = lib.mkDefault "2s";
    };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ ports.kafka ];
  };
}
