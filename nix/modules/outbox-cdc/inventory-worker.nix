# The Inventory Worker: decides orders and decreases the stock, in the Inventory Service's database.
{
  self,
  parts,
  modules,
}:
{ config, lib, ... }:
let
  inherit (config.services.outbox-cdc) inventory;
in
{
  # The defaults, if that database is on this machine.
  config.services.outbox-cdc.inventory-worker =
    lib.mkIf (inventory.enable && inventory.database.createLocally)
      {
        settings.database = {
          port = lib.mkDefault inventory.settings.database.port;
          name = lib.mkDefault inventory.settings.database.name;
        };
        passwordFiles.inventory_worker = lib.mkDefault inventory.passwordFiles.inventory_worker;
      };
  imports = [
    modules.secrets
    # For the options of that database.
    modules.inventory
    (import ./service.nix {
      inherit self parts;
      name = "inventory-worker";
      title = "the Inventory Worker";
      context = import ./context.nix {
        inherit lib;
        name = "inventory";
      };
      role = "inventory_worker";
      port = parts.routes.ports.worker;
      listens = true;
    })
  ];
}
