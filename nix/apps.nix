# The apps of `nix run`. A service without a command serves.
{ pkgs, packages, ... }@args:
let
  inherit (pkgs) lib;
  service =
    name:
    let
      package = packages.${name};
      variables = "${lib.toUpper (lib.replaceStrings [ "-" ] [ "_" ] name)}__…";
    in
    {
      type = "app";
      program = lib.getExe (
        pkgs.writeShellApplication {
          inherit name;
          text = ''
            case "''${1:-}" in
              -h | --help | -V | --version) ;;
              "" | -*)
                set -- serve "$@"
                echo "${name}: reads its settings from --config FILE and ${variables}; \`nix run .#${name} -- check-config --print\` prints them, \`nix run .#demo\` starts the whole system" >&2
                ;;
            esac
            exec ${lib.getExe package} "$@"
          '';
        }
      );
      meta = { inherit (package.meta) description; };
    };
  program = package: {
    type = "app";
    program = lib.getExe package;
    meta = { inherit (package.meta) description; };
  };
in
{
  order = service "order";
  inventory = service "inventory";
  inventory-worker = service "inventory-worker";
  connect = program packages.connect;
  stack = program packages.stack;
  bench = program packages.bench;
  demo = program packages.demo;
  default = program packages.default;
  document-options = program (import ./documents args).update;
}
