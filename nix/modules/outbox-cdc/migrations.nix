# The unit that migrates a context's tables. It alone has the owner's password: the service neither has it nor can read it.
{ context, roles }:
{ config, lib, ... }:
let
  cfg = config.services.outbox-cdc.${context};
  hardening = import ../hardening.nix;
  owner = lib.head roles;
  unit = "outbox-cdc-${context}-migrations";
  user = "outbox-cdc-${context}-owner";
  databaseUnit = lib.optional cfg.database.createLocally "outbox-cdc-${context}-database.service";
  credentials = import ./credentials.nix {
    inherit lib;
    name = context;
  };
  # The owner's password, and the files of the connection to the database.
  secrets =
    credentials.password "owner.password_file" owner cfg.passwordFiles.${owner}
    // credentials.named (
      lib.filterAttrs (setting: _: lib.hasPrefix "database." setting) cfg.credentials
    );
in
{
  options.services.outbox-cdc.${context}.migrations.enable = lib.mkOption {
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
    systemd.services."outbox-cdc-${context}".wants = [ "${unit}.service" ];
  };
}
