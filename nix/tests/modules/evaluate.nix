# Evaluates the example configuration with a further module.
{ lib, example }:
rec {
  # The configuration.
  configure = module: (example.extendModules { modules = [ module ]; }).config;

  # What the configuration of our units consists of.
  unitsOf =
    config:
    lib.mapAttrs (_: unit: { inherit (unit) environment serviceConfig; }) (
      lib.filterAttrs (
        name: _: lib.hasPrefix "outbox-cdc" name || lib.hasPrefix "kafka-connect" name
      ) config.systemd.services
    );

  # The messages of our failed assertions; null if a unit of ours cannot be evaluated.
  failures =
    module:
    let
      config = configure module;
      failed = lib.filter (
        { assertion, message, ... }: !assertion && lib.hasPrefix "services." message
      ) config.assertions;
      result = builtins.tryEval (
        builtins.deepSeq (unitsOf config) (map ({ message, ... }: message) failed)
      );
    in
    if result.success then result.value else null;
}
