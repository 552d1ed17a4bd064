# The Inventory Worker: decides orders and decreases the stock, in the Inventory Service's database.
{
  self,
  parts,
  modules,
}:
{
  imports = [
    modules.secrets
    (import ./service.nix {
      inherit self parts;
      name = "inventory-worker";
      title = "the Inventory Worker";
      context = "inventory";
      role = "inventory_worker";
      port = parts.routes.ports.worker;
      databasePort = parts.routes.ports.inventory_db;
      listens = true;
    })
  ];
}
