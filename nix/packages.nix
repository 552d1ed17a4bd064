# The packages for one system.
{ rust, demo }:
{
  order = rust.binary "order";
  inventory = rust.binary "inventory";
  inventory-worker = rust.binary "inventory-worker";
  connect = rust.binary "connect";
  inherit (demo)
    stack
    bench
    demo
    debezium-connector-postgres
    ;
  default = demo.demo;
}
