# A service as a unit of its own: settings that were checked when they were built, secrets as credentials.
{
  self,
  parts,
  # The program's name, and what it is.
  name,
  title,
  # The side of the flow whose database it uses.
  context,
  # Its role there, the one that keeps its outbox, if that is its work, and every one whose password somebody here needs.
  role,
  keeper ? null,
  roles ? [ role ],
  # Where it serves HTTP, and where its database is, unless told otherwise.
  port,
  databasePort,
  # Whether it listens to a topic.
  listens,
}:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.outbox-cdc.${name};
  shared = config.services.outbox-cdc;
  unit = "outbox-cdc-${name}";
  hardening = import ../hardening.nix;
  toml = pkgs.formats.toml { };
  variable = import ./variable.nix { inherit lib name; };
  credentials = import ./credentials.nix { inherit lib name; };
  migrations = "outbox-cdc-${context}-migrations.service";
  # What must not come to the store in plain text.
  plain = import ../kafka-connect/plain.nix { inherit lib; } (
    lib.filterAttrs (_: lib.isString) (
      cfg.settings.kafka.properties or { }
      // cfg.settings.connector.properties or { }
      // lib.optionalAttrs (cfg.settings ? connector.password) {
        "connector.password" = cfg.settings.connector.password;
      }
    )
  );

  command = pkgs.writeShellApplication {
    name = unit;
    text =
      lib.concatLines (
        lib.mapAttrsToList (
          setting: { file, ... }: "export ${variable setting}=${lib.escapeShellArg file}"
        ) secrets
      )
      + ''
        exec ${lib.getExe cfg.package} --config ${settingsFile} "$@"
      '';
  };
  httpPort = builtins.match ".*:0*([0-9]+)" cfg.settings.http.listen;

  # Setting -> the file that holds its secret, and the name of its credential.
  secrets =
    credentials.password "database.password_file" role cfg.passwordFiles.${role}
    // lib.optionalAttrs (keeper != null) (
      credentials.password "keeper.password_file" keeper cfg.passwordFiles.${keeper}
    )
    // credentials.named cfg.credentials;

  # The files that settings name, secrets among them, are on the machine alone.
  settingsFile =
    pkgs.runCommand "${name}.toml"
      {
        settings = toml.generate "${name}-unchecked.toml" cfg.settings;
        env = credentials.environment unit secrets;
      }
      ''
        ${lib.optionalString (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) ''
          ${lib.getExe cfg.package} check-config --without-files --config "$settings"
        ''}
        cp "$settings" $out
      '';
in
{
  options.services.outbox-cdc.${name} = {
    enable = lib.mkEnableOption "${title}, with its commands as `${unit}`";

    package = mkOption {
      type = types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.${name};
      defaultText = lib.literalExpression "outbox-cdc.packages.\${system}.${name}";
      example = lib.literalExpression "pkgs.callPackage ./${name}.nix { }";
      description = "The package of ${title}.";
    };

    settings = mkOption {
      type = types.submodule {
        # The type's own words would be those of every level within it.
        freeformType = toml.type // {
          description = "TOML value";
        };
        options = {
          http.listen = mkOption {
            type = types.str;
            default = "127.0.0.1:${toString port}";
            example = "0.0.0.0:${toString port}";
            description = "Address and port to serve HTTP at: ${
              if name == "inventory-worker" then
                "health and numbers"
              else
                "the service's own resources, health and numbers"
            }.";
          };
          database = {
            host = mkOption {
              type = types.str;
              default = "127.0.0.1";
              example = "db.example.org";
              description = "The database server's host.";
            };
            port = mkOption {
              type = types.port;
              default = databasePort;
              example = 5432;
              description = "The database server's port.";
            };
            name = mkOption {
              type = types.str;
              default = "${context}_db";
              example = "${context}_test";
              description = "The database's name.";
            };
          };
        }
        // lib.optionalAttrs listens {
          kafka.bootstrap_servers = mkOption {
            type = types.str;
            default = "127.0.0.1:${toString parts.routes.ports.kafka}";
            example = "kafka1.example.org:9093,kafka2.example.org:9093";
            description = "Where Kafka is.";
          };
        };
      };
      default = { };
      example = lib.literalExpression ''
        {
          http.listen = "0.0.0.0:${toString port}";
          database.host = "db.example.org";
          database.sslmode = "verify-full";
          log.format = "json";
        }
      '';
      description = ''
        Settings, as `${name} check-config --print` shows them; those that are not given have the service's own defaults.
        They are looked over by `${name} check-config --without-files` when the configuration is built. They are in the
        store, which everybody may read: secrets belong to `passwordFiles` and `credentials`.
      '';
    };

    passwordFiles = mkOption {
      type = types.submodule {
        options = lib.genAttrs roles (
          role:
          mkOption {
            type = types.nullOr types.externalPath;
            default = "${shared.secretsDirectory}/${role}";
            defaultText = lib.literalExpression ''"''${config.services.outbox-cdc.secretsDirectory}/${role}"'';
            example = "/run/keys/${role}";
            description = "The file outside the store with the password of the role `${role}`.";
          }
        );
      };
      default = { };
      example = lib.literalExpression ''{ ${role} = "/run/keys/${role}"; }'';
      description = "The roles' passwords, by file. Each unit is given those of its own roles alone.";
    };

    credentials = mkOption {
      type = types.attrsOf types.externalPath;
      default = { };
      example = {
        "kafka.property_files.sasl.password" = "/run/keys/kafka_${role}";
      };
      description = ''
        Further settings that name a file with a secret, by the setting's name; the file is outside the store. systemd
        hands it to the service, whose user need not be able to read it.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether other machines may reach the service's HTTP port.";
    };

    command = mkOption {
      type = types.package;
      readOnly = true;
      default = command;
      defaultText = lib.literalMD "made from `settings` and the files of secrets";
      example = lib.literalExpression "config.services.outbox-cdc.${name}.command";
      description = ''
        The service's program with the settings and the secrets of its unit, for those who may read the files: it is on
        the machine's path as `${unit}`, such as in `${unit} check-config`.
      '';
    };

    settingsFile = mkOption {
      type = types.package;
      readOnly = true;
      default = settingsFile;
      defaultText = lib.literalMD "made from `settings`";
      example = lib.literalExpression "config.services.outbox-cdc.${name}.settingsFile";
      description = "The settings as a file, once `${name} check-config` has found them good.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = httpPort != null;
        message = "services.outbox-cdc.${name}.settings.http.listen: `${cfg.settings.http.listen}` has no port at its end";
      }
      {
        assertion = plain == [ ];
        message = "services.outbox-cdc.${name}.settings: ${lib.concatStringsSep ", " plain} would be in the store; give a file to services.outbox-cdc.${name}.credentials";
      }
    ];

    environment.systemPackages = [ command ];

    users.users.${unit} = {
      isSystemUser = true;
      group = unit;
      description = title;
    };
    users.groups.${unit} = { };

    systemd.services.${unit} = {
      description = title;
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      # What of it is on this machine comes first. What is not there, or on another machine, is waited for by the service; of
      # the database it says so to systemd after a minute and a half, by being started again.
      after = [
        "network-online.target"
        "postgresql.target"
        "apache-kafka.service"
        migrations
      ];
      unitConfig.StartLimitIntervalSec = 0;
      environment = credentials.environment unit secrets;
      serviceConfig = hardening.service // {
        Type = "notify";
        ExecStart = "${lib.getExe cfg.package} serve --config ${settingsFile}";
        User = unit;
        Group = unit;
        LoadCredential = credentials.load secrets;
        Restart = "on-failure";
        RestartSec = "2s";
        WatchdogSec = "60s";
      };
    };

    networking.firewall.allowedTCPPorts = lib.optional (cfg.openFirewall && httpPort != null) (
      lib.toInt (lib.head httpPort)
    );
  };
}
