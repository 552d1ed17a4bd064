# The database of a context in this machine's PostgreSQL: its roles, their passwords, the database and the access rules.
{ parts, context }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.outbox-cdc.${context.name};
  inherit (config.services) postgresql;
  hardening = import ../hardening.nix;
  accepted = import ../accepted.nix { inherit lib parts; };
  database = cfg.settings.database.name;
  roles = context.roles.all;
  unit = context.units.database;
  access = import ./access.nix { inherit lib; } {
    inherit database roles;
    inherit (cfg.database) clients;
  };

  # Each start sets the roles and passwords again; the database is created once.
  setup = pkgs.writeText "${unit}.sql" (
    ''
      \set ON_ERROR_STOP on
      -- Keeps the passwords out of the server's log, whatever its settings.
      set log_statement = 'none';
      set log_min_duration_statement = -1;
      set log_min_error_statement = 'panic';
      set password_encryption = 'scram-sha-256';
      \i ${../../../migrations/${context.name}/roles.sql}
    ''
    + lib.concatMapStrings (role: ''
      \set password `cat "$CREDENTIALS_DIRECTORY/${role}"`
      alter role ${role} password :'password';
      \unset password
    '') roles
    + ''
      select $$create database ${database} owner ${context.roles.owner} template template0 encoding 'UTF8' locale 'C'$$
      where not exists (select from pg_database where datname = '${database}') \gexec
      revoke connect, temporary on database ${database} from public;
      grant connect on database ${database} to ${lib.concatStringsSep ", " roles};
    ''
  );

  # PostgreSQL would accept an empty password and set none.
  refuseEmptyPasswords = pkgs.writeShellScript "${unit}-passwords" ''
    for role in ${toString roles}; do
      if [ -z "$(${pkgs.coreutils}/bin/cat "$CREDENTIALS_DIRECTORY/$role")" ]; then
        echo "the password of $role is empty; write it to its file" >&2
        exit 1
      fi
    done
  '';

  client = types.submodule {
    options = {
      address = mkOption {
        # PostgreSQL would load none of the rules if one had a malformed address.
        type = types.strMatching "[0-9A-Fa-f.:]+/[0-9]{1,3}";
        example = "192.0.2.7/32";
        description = "The address range, in CIDR notation. A host with an IPv4 and an IPv6 address needs two entries.";
      };
      tls = mkOption {
        type = types.bool;
        default = false;
        example = true;
        description = "Whether the connection must use TLS (`hostssl`). The server needs a certificate: `services.postgresql.settings.ssl`.";
      };
      roles = mkOption {
        type = types.nonEmptyListOf (types.enum roles);
        default = [ context.roles.cdc ];
        example = [ context.roles.service ];
        description = "The roles that can connect from these addresses.";
      };
    };
  };
in
{
  options.services.outbox-cdc.${context.name}.database = {
    createLocally = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether to create the roles, their passwords, the database and its access rules in this machine's PostgreSQL
        (`services.postgresql`). Otherwise an operator creates them on the database server, with
        `migrations/${context.name}/roles.sql`.
      '';
    };

    clients = mkOption {
      type = types.listOf client;
      default = [ ];
      example = [ { address = "192.0.2.7/32"; } ];
      description = "The other machines that can connect to the database, such as that of Kafka Connect. On this machine every role can connect.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether to open PostgreSQL's port in the firewall.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.database.createLocally) {
    assertions = [
      (accepted {
        part = "postgresql";
        title = "PostgreSQL";
        of = "services.outbox-cdc.${context.name}";
        inherit (postgresql) package;
        option = "services.postgresql.package";
      })
      {
        assertion = lib.all (role: cfg.passwordFiles.${role} != null) roles;
        message = "services.outbox-cdc.${context.name}.passwordFiles: with database.createLocally every role needs a password";
      }
      {
        assertion = builtins.match "[a-z_][a-z0-9_]*" database != null;
        message = "services.outbox-cdc.${context.name}.settings.database.name: `${database}` would need quotes; use lowercase letters, digits and underscores";
      }
      {
        assertion = lib.hasInfix access postgresql.authentication;
        message = "services.outbox-cdc.${context.name}: its access rules are not in services.postgresql.authentication; add rules without mkForce or mkOverride";
      }
      {
        assertion = postgresql.settings.wal_level == "logical";
        message = "services.outbox-cdc.${context.name}: services.postgresql.settings.wal_level is not `logical`, which Debezium needs";
      }
    ];

    services.outbox-cdc.${context.name}.settings.database.port = lib.mkDefault postgresql.settings.port;

    services.postgresql = {
      enable = true;
      enableTCPIP = lib.mkIf (cfg.database.clients != [ ]) (lib.mkDefault true);
      settings = lib.mapAttrs (_: lib.mkDefault) parts.routes.postgresql;
      authentication = lib.mkOrder 750 access;
    };

    systemd.services.${unit} = {
      description = "Roles and database of ${context.name}";
      wantedBy = [ "multi-user.target" ];
      # `wants`, because `requires` would stop this unit for good when the server fails once.
      wants = [ "postgresql.target" ];
      after = [ "postgresql.target" ];
      path = [
        pkgs.coreutils
        postgresql.finalPackage
      ];
      unitConfig.StartLimitIntervalSec = 0;
      environment.PGPORT = toString postgresql.settings.port;
      serviceConfig = hardening.service // {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStartPre = "${refuseEmptyPasswords}";
        ExecStart = "${postgresql.finalPackage}/bin/psql --no-psqlrc --quiet --dbname=postgres --file=${setup}";
        # Peer authentication needs the real user.
        PrivateUsers = false;
        User = "postgres";
        Group = "postgres";
        LoadCredential = map (role: "${role}:${toString cfg.passwordFiles.${role}}") roles;
        Restart = "on-failure";
        RestartSec = "5s";
      };
    };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.database.openFirewall [
      postgresql.settings.port
    ];
  };
}
