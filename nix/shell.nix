# The environment of `nix develop`: the inputs of the builds, and the tools of a developer.
{
  pkgs,
  rust,
  demo,
  ...
}:
{
  default = rust.craneLib.devShell (
    {
      inputsFrom = [ rust.binaries ];
      packages = [
        pkgs.apacheKafka
        pkgs.cargo-nextest
        pkgs.deadnix
        pkgs.nixfmt
        pkgs.nixfmt-tree
        pkgs.postgresql_18
        pkgs.rust-analyzer
        pkgs.statix
      ];
      RUST_SRC_PATH = "${pkgs.rustPlatform.rustLibSrc}";
      shellHook = ''
        cat >&2 <<'TEXT'
        ./dev demo       start the whole stack, place orders, show their way
        ./dev test       run all tests on a real stack; ./dev check runs the lints
        nix flake check  build, lint, test, and run the system in virtual machines
        TEXT
      '';
    }
    // demo.environment
  );
}
