# What `nix run` starts. Services serve, unless another of their commands is named.
{ pkgs, packages, ... }:
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
                echo "${name}: settings come from --config FILE and ${variables}, \`nix run .#${name} -- check-config --print\` shows them; everything at once: \`nix run .#demo\`" >&2
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
  demo = program packages.demo;
  default = program packages.default;
}
