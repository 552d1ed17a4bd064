# The database that holds a context's outbox: its roles, its tables, its connector.
{
  parts,
  context,
  # The first one owns the database.
  roles,
}:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.outbox-cdc.${context};
  inherit (config.services) postgresql;
  hardening = import ../hardening.nix;
  database = cfg.settings.database.name;
  owner = lib.head roles;
  cdc = "${context}_cdc";
  names = {
    database = "outbox-cdc-${context}-database";
    migrations = "outbox-cdc-${context}-migrations";
    owner = "outbox-cdc-${context}-owner";
  };
  credentials = import ./credentials.nix {
    inherit lib;
    name = context;
  };

  # What the owner's unit is given: its password, and what every connection to the database needs besides.
  secrets =
    credentials.password "owner.password_file" owner cfg.passwordFiles.${owner}
    // credentials.named (
      lib.filterAttrs (setting: _: lib.hasPrefix "database." setting) cfg.credentials
    );

  # Roles and passwords are made again and again, which changes nothing; the database once.
  setup = pkgs.writeText "${names.database}.sql" (
    ''
      \set ON_ERROR_STOP on
      -- No password in the server's log, whatever else is.
      set log_statement = 'none';
      set log_min_duration_statement = -1;
      set log_min_error_statement = 'panic';
      set password_encryption = 'scram-sha-256';
      \i ${../../../migrations/${context}/roles.sql}
    ''
    + lib.concatMapStrings (role: ''
      \set password `cat "$CREDENTIALS_DIRECTORY/${role}"`
      alter role ${role} password :'password';
      \unset password
    '') roles
    + ''
      select $$create database ${database} owner ${owner} template template0 encoding 'UTF8' locale 'C'$$
      where not exists (select from pg_database where datname = '${database}') \gexec
      revoke connect, temporary on database ${database} from public;
      grant connect on database ${database} to ${lib.concatStringsSep ", " roles};
    ''
  );

  # An empty password would be none, without a word.
  refuseEmpty = pkgs.writeShellScript "${names.database}-passwords" ''
    for role in ${toString roles}; do
      if [ -z "$(${pkgs.coreutils}/bin/cat "$CREDENTIALS_DIRECTORY/$role")" ]; then
        echo "the password of $role is empty; write it to its file" >&2
        exit 1
      fi
    done
  '';

  # The first line that matches decides, and the server's own lines come last: nobody but these roles gets in, they get in
  # nowhere else, and only Debezium's may come from elsewhere. Logical replication matches the database's own line.
  allRoles = lib.concatStringsSep "," roles;
  access =
    lib.concatMapStrings
      (address: ''
        host ${database} ${allRoles} ${address} scram-sha-256
      '')
      [
        "127.0.0.1/32"
        "::1/128"
      ]
    + lib.concatMapStrings (client: ''
      ${
        if client.tls then "hostssl" else "host"
      } ${database} ${lib.concatStringsSep "," client.roles} ${client.address} scram-sha-256
    '') cfg.database.clients
    + ''
      local ${database} postgres peer
      local ${database} all reject
      host ${database} all all reject
      local all,replication ${allRoles} reject
      host all,replication ${allRoles} all reject
    '';

  connector = pkgs.runCommand "${context}-connector.json" { } ''
    ${lib.getExe cfg.package} connector --config ${cfg.settingsFile} > $out
  '';
in
{
  options.services.outbox-cdc.${context} = {
    connector = mkOption {
      type = types.package;
      readOnly = true;
      default = connector;
      defaultText = lib.literalMD "made from `settings`";
      example = lib.literalExpression "config.services.outbox-cdc.${context}.connector";
      description = ''
        The outbox's connector and its topic, as a file for `services.kafka-connect.connectorFiles`. Where Kafka Connect is
        on another machine, that machine's configuration can have the same `settings` with the service not enabled, or
        take this from the other configuration.
      '';
    };

    database = {
      createLocally = mkOption {
        type = types.bool;
        default = false;
        example = true;
        description = ''
          Whether this machine's PostgreSQL (`services.postgresql`) holds the database: the module creates roles, passwords
          and the database, and no other role may connect. Elsewhere an operator creates them, as
          `migrations/${context}/roles.sql` says.
        '';
      };

      clients = mkOption {
        type = types.listOf (
          types.submodule {
            options = {
              address = mkOption {
                # With anything else the server would not read its rules at all.
                type = types.strMatching "[0-9A-Fa-f.:]+/[0-9]{1,3}";
                example = "192.0.2.7/32";
                description = "Addresses in CIDR notation. Where a name stands for an IPv6 address too, both are needed.";
              };
              tls = mkOption {
                type = types.bool;
                default = false;
                example = true;
                description = "Whether they must encrypt, for which `services.postgresql.settings.ssl` gives the server a certificate.";
              };
              roles = mkOption {
                type = types.nonEmptyListOf (types.enum roles);
                default = [ cdc ];
                example = [ "${context}_service" ];
                description = "The roles that may come from there.";
              };
            };
          }
        );
        default = [ ];
        example = [ { address = "192.0.2.7/32"; } ];
        description = "Other machines that may reach the database, such as that of Kafka Connect. On this machine every role may.";
      };

      openFirewall = mkOption {
        type = types.bool;
        default = false;
        example = true;
        description = "Whether other machines may reach PostgreSQL's port.";
      };
    };

    migrations.enable = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        Whether this machine runs `${context} migrate`, in a unit that alone has the owner's password: it creates or upgrades
        the tables and grants the roles of `settings` what they need. Where several machines use one database, one of them
        is enough; several take turns.
      '';
    };
  };

  config = lib.mkMerge [
    {
      # The connector's password is a credential of Kafka Connect, of the role's name.
      services.outbox-cdc.${context}.settings.connector.password =
        lib.mkDefault "\${dir:${config.services.kafka-connect.credentialsDirectory}:${cdc}}";
    }

    (lib.mkIf (cfg.enable && cfg.migrations.enable) {
      users.users.${names.owner} = {
        isSystemUser = true;
        group = names.owner;
        description = "owner of ${database}";
      };
      users.groups.${names.owner} = { };

      # Only this unit has the owner's password: the service cannot read it.
      systemd.services.${names.migrations} = {
        description = "tables of ${database}";
        wantedBy = [ "multi-user.target" ];
        wants = [
          "network-online.target"
        ]
        ++ lib.optional cfg.database.createLocally "${names.database}.service";
        after = [
          "network-online.target"
          "postgresql.target"
        ]
        ++ lib.optional cfg.database.createLocally "${names.database}.service";
        unitConfig.StartLimitIntervalSec = 0;
        environment = credentials.environment names.migrations secrets;
        serviceConfig = hardening.service // {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${lib.getExe cfg.package} migrate --config ${cfg.settingsFile}";
          User = names.owner;
          Group = names.owner;
          LoadCredential = credentials.load secrets;
          Restart = "on-failure";
          RestartSec = "5s";
        };
      };
      systemd.services."outbox-cdc-${context}".wants = [ "${names.migrations}.service" ];
    })

    (lib.mkIf (cfg.enable && cfg.database.createLocally) {
      assertions = [
        {
          assertion = parts.accepted.postgresql postgresql.package.version;
          message = "services.outbox-cdc.${context}: PostgreSQL ${postgresql.package.version} is not accepted (from ${lib.head parts.routes.accepted.postgresql}, below ${lib.last parts.routes.accepted.postgresql}); see services.postgresql.package";
        }
        {
          assertion = lib.all (role: cfg.passwordFiles.${role} != null) roles;
          message = "services.outbox-cdc.${context}.passwordFiles: with database.createLocally every role needs a password";
        }
        {
          assertion = builtins.match "[a-z_][a-z0-9_]*" database != null;
          message = "services.outbox-cdc.${context}.settings.database.name: `${database}` would need quotes; use small dead letters, digits and underscores";
        }
        {
          assertion = lib.hasInfix access postgresql.authentication;
          message = "services.outbox-cdc.${context}: its access rules are not in services.postgresql.authentication; add rules without mkForce or mkOverride";
        }
        {
          assertion = postgresql.settings.wal_level == "logical";
          message = "services.outbox-cdc.${context}: services.postgresql.settings.wal_level is not `logical`, which Debezium reads";
        }
      ];

      services.outbox-cdc.${context}.settings.database.port = lib.mkDefault postgresql.settings.port;

      services.postgresql = {
        enable = true;
        enableTCPIP = lib.mkIf (cfg.database.clients != [ ]) (lib.mkDefault true);
        settings = lib.mapAttrs (_: lib.mkDefault) parts.routes.postgresql;
        authentication = lib.mkOrder 750 access;
      };

      systemd.services.${names.database} = {
        description = "roles and database of ${context}";
        wantedBy = [ "multi-user.target" ];
        # Not required: a server that failed once, and runs now, would have ended this for good.
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
          ExecStartPre = "${refuseEmpty}";
          ExecStart = "${postgresql.finalPackage}/bin/psql --no-psqlrc --quiet --dbname=postgres --file=${setup}";
          # Its peer must be the user that the server knows.
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
    })
  ];
}
