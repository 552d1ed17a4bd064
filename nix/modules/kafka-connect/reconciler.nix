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
  # The files of the way into a protected worker, by the names of their options of the program.
  files = lib.filterAttrs (_: file: file != null) {
    password-file = cfg.reconciler.passwordFile;
    ca = cfg.reconciler.caFile;
    cert = cfg.reconciler.certFile;
    key = cfg.reconciler.keyFile;
  };
  access = lib.concatStrings (
    lib.optional (cfg.reconciler.user != null) " --user ${lib.escapeShellArg cfg.reconciler.user}"
    ++ lib.mapAttrsToList (name: _: " --${name} %d/${name}") files
  );
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
    url = mkOption {
      type = types.str;
      default = "http://${address.local cfg.listenAddress}:${toString cfg.port}";
      defaultText = lib.literalMD "the worker's `listenAddress` and `port`";
      example = "https://kafka-connect.example.org:8083";
      description = "The address of the worker, with `https` if its `listeners` have it.";
    };
    user = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "reconciler";
      description = "The user of basic authentication.";
    };
    passwordFile = mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      example = "/run/keys/reconciler";
      description = "The file of the user's password.";
    };
    caFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression "./authority.pem";
      description = "The file of the authorities that may have signed the worker's certificate, as PEM, instead of the machine's.";
    };
    certFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression "./reconciler.pem";
      description = "The file of the reconciler's certificate, as PEM; with `keyFile`.";
    };
    keyFile = mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      example = "/run/keys/reconciler.key";
      description = "The file of the certificate's key in PKCS#8, as PEM.";
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
        ExecStart = "${lib.getExe cfg.reconciler.package} --url ${cfg.reconciler.url}${access} reconcile --owner ${cfg.reconciler.owner} %t/kafka-connect-connectors/declared";
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") files;
        User = "kafka-connect-connectors";
        Group = "kafka-connect-connectors";
        Restart = "on-failure";
        RestartSec = "2s";
      };
    };
  };
}
