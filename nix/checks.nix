# `nix flake check`.
{
  rust,
  packages,
  ...
}:
let
  inherit (rust) craneLib built documented;
in
packages
// {
  fmt = craneLib.cargoFmt { inherit (built) pname version src; };
  clippy = craneLib.cargoClippy (
    built // { cargoClippyExtraArgs = "--all-targets -- --deny warnings"; }
  );
}
