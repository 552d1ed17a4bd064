# `nix develop`: what the builds use, and what one works with.
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
        ./dev demo       start everything, place orders, show what becomes of them
        ./dev test       run all tests beside a real stack; ./dev check lints
        nix flake check  builds, lints, tests, and the system in virtual machines
        TEXT
      '';
    }
    // demo.environment
  );
}
