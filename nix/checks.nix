# `nix flake check`: packages, formatting, lints, documentation, tests, and that both ways to run are one system.
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
  # Done when the command is.
  check =
    name: inputs: command:
    pkgs.runCommand name { nativeBuildInputs = inputs; } ''
      ${command}
      touch $out
    '';
  apps = import ./apps.nix args;
  # What the README shows of `nix run`, as it is run: programs and their arguments.
  shown = lib.concatMap (
    line:
    let
      found = builtins.match "[$] nix run [.]#([a-z-]+)( -- ([^#]+))? *(#.*)?" line;
    in
    lib.optional (found != null) "${apps.${lib.head found}.program} ${toString (lib.elemAt found 2)}"
  ) (lib.splitString "\n" (builtins.readFile ../README.md));
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
  # Every test that needs no Kafka, on real PostgreSQL servers; the other ones are for the virtual machines.
  nextest = craneLib.cargoNextest (
    built
    // {
      cargoNextestExtraArgs = "--profile postgresql";
      # A server a test: as many at once as there are processors.
      env = built.env // demo.environment;
      preCheck = ''
        export STACK_HOME=$TMPDIR/stack
      '';
    }
  );
  # Those that hold the README to the code.
  readme = craneLib.cargoTest (documented // { cargoTestExtraArgs = "--lib the_readme"; });
  doctest = craneLib.cargoDocTest documented;
  doc = craneLib.cargoDoc (
    documented
    // {
      env = documented.env // {
        RUSTDOCFLAGS = "--deny warnings";
      };
    }
  );
  commands = check "commands" [ ] ''
    export HOME=$TMPDIR STACK_HOME=$TMPDIR/stack STACK_PORTS=free
    set -x
    ${lib.concatLines (
      assert shown != [ ];
      shown
    )}
  '';
  # What `nix develop` needs.
  shell = (import ./shell.nix args).default;
  nixfmt = check "nixfmt" [ pkgs.nixfmt ] "find ${nixFiles} -name '*.nix' -exec nixfmt --check {} +";
  deadnix = check "deadnix" [ pkgs.deadnix ] "deadnix --fail ${nixFiles}";
  statix = check "statix" [ pkgs.statix ] "statix check ${nixFiles}";
}
// {
  routes = import ./routes.nix args;
}
// import ./tests args
