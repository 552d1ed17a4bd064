# The outbox of a context: its connector, and the modules of its database and its migrations.
{
  parts,
  context,
  # The roles of the context, the owner first.
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
  connector = pkgs.runCommand "${context}-connector.json" { } ''
    ${lib.getExe cfg.package} connector --config ${cfg.settingsFile} > $out
  '';
in
{
  imports = [
    (import ./database.nix { inherit parts context roles; })
    (import ./migrations.nix { inherit context roles; })
  ];

  options.services.outbox-cdc.${context}.connector = mkOption {
    type = types.package;
    readOnly = true;
    default = connector;
    defaultText = lib.literalMD "generated from `settings`";
    example = lib.literalExpression "config.services.outbox-cdc.${context}.connector";
    description = ''
      The connector of the outbox and its topic, as a file for `services.kafka-connect.connectorFiles`. If Kafka Connect
      runs on another machine, take this option from the configuration of the service's machine, or give that machine
      the same `settings` without enabling the service.
    '';
  };

  # The password of the connector's role is the credential of Kafka Connect with the same name.
  config.services.outbox-cdc.${context}.settings.connector.password =
    lib.mkDefault "\${dir:${config.services.kafka-connect.credentialsDirectory}:${context}_cdc}";
}
