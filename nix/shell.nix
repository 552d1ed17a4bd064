# `nix develop`: what the builds use, and what one works with.
{
  pkgs,
  rust,
  packages,
  ...
}:
{
  default = rust.craneLib.devShell {
    inputsFrom = [ rust.binaries ];
    packages = [
      pkgs.cargo-nextest
      pkgs.rust-analyzer
      pkgs.postgresql_18
      pkgs.apacheKafka
      pkgs.nixfmt-tree
      pkgs.deadnix
      pkgs.statix
      packages.stack
    ];
  };
}
