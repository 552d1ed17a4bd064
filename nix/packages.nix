# The packages of one system.
{
  pkgs,
  parts,
  rust,
}:
let
  debezium-connector-postgres = pkgs.callPackage ./debezium.nix {
    inherit (parts.debezium) version hash;
  };
  stack = import ./demo.nix {
    inherit pkgs debezium-connector-postgres;
    inherit (rust) binaries;
  };
in
{
  order = rust.binary "order";
  inventory = rust.binary "inventory";
  inventory-worker = rust.binary "inventory-worker";
  connect = rust.binary "connect";
  inherit debezium-connector-postgres;
  inherit (stack) stack demo;
  default = stack.demo;
}
