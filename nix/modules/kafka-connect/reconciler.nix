# The unit that keeps the connectors of Kafka Connect as they are declared.
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
  address = import ./address.nix { inherit lib; };
  url = "http://${address.local cfg.listenAddress}:${toString cfg.port}";
  waitForTopics = pkgs.writeShellScript "wait-for-kafka-connect-topics" ''
    until [ -e /run/kafka-connect-topics/created ]; do
      ${pkgs.coreutils}/bin/sleep 0.5
    done
  '';
in
{
  options.services.kafka-connect.reconciler = {
    enable = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = "Whether this machine creates the topics and reconciles the connectors. Enable it on one worker of a group.";
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
      description = "The owner that the reconciler writes into the configuration of its connectors. It updates and deletes only connectors of this owner.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.reconciler.enable) {
    users.users.kafka-connect-connectors = {
      isSystemUser = true;
      group = "kafka-connect-connectors";
      description = "Reconciler of Kafka Connect's connectors";
    };
    users.groups.kafka-connect-connectors = { };

    systemd.services.kafka-connect-connectors = {
      description = "Reconciler of Kafka Connect's connectors";
      wantedBy = [ "multi-user.target" ];
      wants = [ "kafka-connect-topics.service" ];
      after = [
        "kafka-connect.service"
        "kafka-connect-topics.service"
      ];
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = hardening.service // {
        # The directory is a link, so that the reconciler always reads a complete one.
        RuntimeDirectory = "kafka-connect-connectors";
        ExecStartPre = [
          # `after` orders only the first attempt to create the topics.
          "${waitForTopics}"
          "${pkgs.coreutils}/bin/ln -sfn ${cfg.connectorsDirectory} %t/kafka-connect-connectors/declared"
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
