# `nix flake check`: packages, formatting, lints, documents, tests, and that ./dev and Nix run the same system.
{
  pkgs,
  rust,
  demo,
  packages,
  ...
}@args:
let
  inherit (pkgs) lib;
  inherit (rust) craneLib built documented;
  nixFiles = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.fileFilter (file: file.hasExt "nix") ../.;
  };
  check =
    name: inputs: command:
    pkgs.runCommand name { nativeBuildInputs = inputs; } ''
      ${command}
      touch $out
    '';
  apps = import ./apps.nix args;
  documents = import ./documents args;
  # Those that `nix run` alone can do, without a checkout to write to.
  commands = lib.filter ({ app, ... }: app != "document-options") documents.commands;
in
packages
// {
  rustfmt = craneLib.cargoFmt { inherit (built) pname version src; };
  clippy = craneLib.cargoClippy (
    built
    // {
      cargoClippyExtraArgs = "--all-targets -- --deny warnings";
    }
  );
  # The tests that need no Kafka, on real PostgreSQL servers. The virtual machines test the rest.
  nextest = craneLib.cargoNextest (
    built
    // {
      cargoNextestExtraArgs = "--profile postgresql";
      # The programs are built already, examples included: no test runs cargo.
      env = built.env // demo.environment // { STACK_BINARIES = "${rust.binaries}/bin"; };
      preCheck = ''
        export STACK_HOME=$TMPDIR/stack
      '';
    }
  );
  # The test that compares the documents with the code.
  architecture = craneLib.cargoTest (
    documented // { cargoTestExtraArgs = "--lib the_architecture_page"; }
  );
  doctest = craneLib.cargoDocTest documented;
  doc = craneLib.cargoDoc (
    documented
    // {
      env = documented.env // {
        RUSTDOCFLAGS = "--deny warnings";
      };
    }
  );
  document-options = documents.check;
  # Runs every `nix run` command of the documents.
  commands = check "commands" [ ] ''
    export HOME=$TMPDIR STACK_HOME=$TMPDIR/stack STACK_PORTS=free
    set -x
    ${lib.concatLines (
      assert commands != [ ];
      map ({ app, arguments }: "${apps.${app}.program} ${arguments}") commands
    )}
  '';
  # The environment of `nix develop`.
  shell = (import ./shell.nix args).default;
  nixfmt = check "nixfmt" [ pkgs.nixfmt ] "find ${nixFiles} -name '*.nix' -exec nixfmt --check {} +";
  deadnix = check "deadnix" [ pkgs.deadnix ] "deadnix --fail ${nixFiles}";
  statix = check "statix" [ pkgs.statix ] "statix check ${nixFiles}";
}
// {
  routes = import ./routes.nix args;
}
// import ./tests args
