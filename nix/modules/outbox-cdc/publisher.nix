# A service with an outbox: its unit, its database and migrations, and the connector of its outbox.
{
  self,
  parts,
  modules,
  # The name of the program and of its context, and a title for descriptions.
  name,
  title,
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
  cfg = config.services.outbox-cdc.${name};
  context = import ./context.nix { inherit lib name; };
in
{
  imports = [
    modules.secrets
    # For the directory of credentials that the connector refers to.
    modules.kafka-connect
    (import ./service.nix {
      inherit
        self
        parts
        name
        title
        context
        listens
        ;
      role = context.roles.service;
      keeper = context.roles.keeper;
      roles = context.roles.all;
      port = parts.routes.ports.${name};
    })
    (import ./database.nix { inherit parts context; })
    (import ./migrations.nix { inherit context; })
  ];

  options.services.outbox-cdc.${name}.connector = lib.mkOption {
    type = lib.types.package;
    readOnly = true;
    default = pkgs.runCommand "${name}-connector.json" { } ''
      ${lib.getExe cfg.package} connector --config ${cfg.settingsFile} > $out
    '';
    defaultText = lib.literalMD "generated from `settings`";
    example = lib.literalExpression "config.services.outbox-cdc.${name}.connector";
    description = ''
      The connector of the outbox and its topic, as a file for `services.kafka-connect.connectorFiles`. If Kafka Connect
      runs on another machine, take this option from the configuration of the service's machine, or give that machine
      the same `settings` without enabling the service.
    '';
  };

  # The password of the connector's role is the credential of Kafka Connect with the same name.
  config.services.outbox-cdc.${name}.settings.connector.password =
    lib.mkDefault "\${dir:${config.services.kafka-connect.credentialsDirectory}:${context.roles.cdc}}";
}
