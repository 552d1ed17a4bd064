# The unit that migrates a context's tables. It alone has the owner's password: the service neither has it nor can read it.
{ context }:
{ config, lib, ... }:
let
  cfg = config.services.outbox-cdc.${context.name};
  hardening = import ../hardening.nix;
  inherit (context.roles) owner;
  unit = context.units.migrations;
  user = "outbox-cdc-${context.name}-owner";
  databaseUnit = lib.optional cfg.database.createLocally "${context.units.database}.service";
  credentials = import ./credentials.nix {
    inherit lib;
    inherit (context) name;
  };
  # The owner's password, and the files of the connection to the database.
  secrets =
    credentials.password "owner.password_file" owner cfg.passwordFiles.${owner}
    // credentials.named (
      lib.filterAttrs (setting: _: lib.hasPrefix "database." setting) cfg.credentials
    );
in
{
  options.services.outbox-cdc.${context.name}.migrations.enable = lib.mkOption {
    type = lib.types.bool;
    default = true;
    example = false;
    description = ''
      Whether this machine migrates the tables of the database, in a unit that alone has the owner's password. If several
      machines use one database, enable it on one of them.
    '';
  };

  config = lib.mkIf (cfg.enable && cfg.migrations.enable) {
    users.users.${user} = {
      isSystemUser = true;
      group = user;
      description = "Owner of ${cfg.settings.database.name}";
    };
    users.groups.${user} = { };

    systemd.services.${unit} = {
      description = "Migrations of ${cfg.settings.database.name}";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ] ++ databaseUnit;
      after = [
        "network-online.target"
        "postgresql.target"
      ]
      ++ databaseUnit;
      unitConfig.StartLimitIntervalSec = 0;
      environment = credentials.environment unit secrets;
      serviceConfig = hardening.service // {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${lib.getExe cfg.package} migrate --config ${cfg.settingsFile}";
        User = user;
        Group = user;
        LoadCredential = credentials.load secrets;
        Restart = "on-failure";
        RestartSec = "5s";
      };
    };
    systemd.services.${context.units.service}.wants = [ "${unit}.service" ];
  };
}
