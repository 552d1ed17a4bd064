# The options and the unit of a service. The build checks the settings; systemd passes the secrets as credentials.
{
  self,
  parts,
  # The name of the program, and a title for descriptions.
  name,
  title,
  # The context whose database it uses, as context.nix describes it.
  context,
  # Its database role, the role of its outbox's keeper if it runs one, and all roles whose passwords its module configures.
  role,
  keeper ? null,
  roles ? [ role ],
  # The default port of its HTTP server.
  port,
  # Whether it consumes a topic.
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
  migrations = "${context.units.migrations}.service";
  plaintextSecrets = import ../kafka-connect/plaintext-secrets.nix { inherit lib; } (
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

  # By setting, the file of the secret and the name of its credential.
  secrets =
    credentials.password "database.password_file" role cfg.passwordFiles.${role}
    // lib.optionalAttrs (keeper != null) (
      credentials.password "keeper.password_file" keeper cfg.passwordFiles.${keeper}
    )
    // credentials.named cfg.credentials;

  # The build cannot check the files that settings name: they exist only on the machine.
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
    enable = lib.mkEnableOption "${title} and its command `${unit}`";

    package = mkOption {
      type = types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.${name};
      defaultText = lib.literalExpression "outbox-cdc.packages.\${system}.${name}";
      example = lib.literalExpression "pkgs.callPackage ./${name}.nix { }";
      description = "The package of ${title}.";
    };

    settings = mkOption {
      type = types.submodule {
        # Keeps the option's documented type short.
        freeformType = toml.type // {
          description = "TOML value";
        };
        options = {
          http.listen = mkOption {
            type = types.str;
            default = "127.0.0.1:${toString port}";
            example = "0.0.0.0:${toString port}";
            description = "The address and port of the HTTP server, which serves ${
              lib.optionalString (name != "inventory-worker") "the service's API, "
            }health and metrics.";
          };
          database = {
            host = mkOption {
              type = types.str;
              default = "127.0.0.1";
              example = "db.example.org";
              description = "The host of the PostgreSQL server.";
            };
            port = mkOption {
              type = types.port;
              default = parts.routes.ports."${context.name}_db";
              example = 5432;
              description = "The port of the PostgreSQL server. With `database.createLocally`, the default is the port of `services.postgresql`.";
            };
            name = mkOption {
              type = types.str;
              default = "${context.name}_db";
              example = "${context.name}_test";
              description = "The name of the database.";
            };
          };
        }
        // lib.optionalAttrs listens {
          kafka.bootstrap_servers = mkOption {
            type = types.str;
            default = "127.0.0.1:${toString parts.routes.ports.kafka}";
            example = "kafka1.example.org:9093,kafka2.example.org:9093";
            description = "The brokers for the initial connection, separated by commas.";
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
        The settings of the service, as `${name} check-config --print` prints them. Omitted settings have the service's own
        defaults. The build checks the settings with `${name} check-config --without-files`. They are in the world-readable
        store: put secrets into `passwordFiles` and `credentials`.
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
            description = "The file with the password of the role `${role}`.";
          }
        );
      };
      default = { };
      example = lib.literalExpression ''{ ${role} = "/run/keys/${role}"; }'';
      description = "The password file of each role, outside the store. A unit receives only the passwords of its own roles.";
    };

    credentials = mkOption {
      type = types.attrsOf types.externalPath;
      default = { };
      example = {
        "kafka.property_files.sasl.password" = "/run/keys/kafka_${role}";
      };
      description = ''
        Further settings that name a file with a secret, by the name of the setting. The file is outside the store; systemd
        passes it to the service, whose user needs no access to it.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether to open the port of the HTTP server in the firewall.";
    };

    command = mkOption {
      type = types.package;
      readOnly = true;
      default = command;
      defaultText = lib.literalMD "generated from `settings` and the secret files";
      example = lib.literalExpression "config.services.outbox-cdc.${name}.command";
      description = ''
        The program of the service with the settings and secrets of its unit. It is in the system path as `${unit}`, for
        users who can read the secret files: `${unit} check-config`.
      '';
    };

    settingsFile = mkOption {
      type = types.package;
      readOnly = true;
      default = settingsFile;
      defaultText = lib.literalMD "generated from `settings`";
      example = lib.literalExpression "config.services.outbox-cdc.${name}.settingsFile";
      description = "The file of the settings, which `${name} check-config` has accepted.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = httpPort != null;
        message = "services.outbox-cdc.${name}.settings.http.listen: `${cfg.settings.http.listen}` has no port at its end";
      }
      {
        assertion = plaintextSecrets == [ ];
        message = "services.outbox-cdc.${name}.settings: ${lib.concatStringsSep ", " plaintextSecrets} would be in the store; name a file in services.outbox-cdc.${name}.credentials";
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
      # Orders the service after its dependencies on this machine. The service itself waits for those on other machines;
      # without a database, the start times out after 90 s and systemd restarts it.
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
