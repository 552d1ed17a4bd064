# Holds docs/nixos.md to the flake: its tables of options and its commands.
{ self, pkgs, ... }:
let
  inherit (pkgs) lib;
  document = builtins.readFile ../../docs/nixos.md;
  linesOf = file: lib.splitString "\n" (builtins.readFile file);
  tables = import ./options.nix { inherit self pkgs; };
  shows = table: lib.replaceStrings [ table ] [ "" ] document != document;
  outdated = lib.attrNames (lib.filterAttrs (_: table: !(shows table)) tables);
  # The groups of a pattern, in every line of the documents that matches it.
  found =
    pattern: files:
    lib.filter (groups: groups != null) (map (builtins.match pattern) (lib.concatMap linesOf files));
in
{
  # The `nix run` commands that the documents show: the app and its arguments.
  commands = lib.unique (
    map
      (groups: {
        app = lib.head groups;
        arguments = toString (lib.elemAt groups 2);
      })
      (
        found "[$] nix run [.]#([a-z-]+)( -- ([^#]+))? *(#.*)?" [
          ../../README.md
          ../../docs/nixos.md
        ]
      )
  );

  # The program that writes the tables into docs/nixos.md.
  update = pkgs.writeShellApplication {
    name = "document-options";
    runtimeInputs = [ pkgs.python3 ];
    text = ''
      exec python3 ${./update.py} ${pkgs.writeText "tables.json" (builtins.toJSON tables)} docs/nixos.md
    '';
    meta.description = "Writes the tables of the modules' options into docs/nixos.md";
  };

  check =
    if outdated != [ ] then
      throw "docs/nixos.md: the tables of ${lib.concatStringsSep ", " outdated} differ from the modules; run nix run .#document-options"
    else
      pkgs.runCommand "document-options" { } "touch $out";
}
