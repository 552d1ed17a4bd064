# Reads a .properties file of the form that ours have: one `key=value` on each line, comments with `#`. Any other line is
# an error.
{ lib }:
file:
let
  lines = lib.splitString "\n" (builtins.readFile file);
  isSetting = line: builtins.match " *(#.*)?" line == null;
  parse =
    line:
    let
      groups = builtins.match "([^=: \\]+)=([^\\]*)" line;
    in
    if groups == null then
      throw "${baseNameOf file}: cannot read the line ${builtins.toJSON line}"
    else
      lib.nameValuePair (lib.head groups) (lib.last groups);
  settings = map parse (lib.filter isSetting lines);
  names = map (setting: setting.name) settings;
in
if lib.allUnique names then
  lib.listToAttrs settings
else
  throw "${baseNameOf file} sets something twice"
