# Secrets as a unit is given them: by setting, where each is (`file`) and what its credential is called (`id`).
{ lib, name }:
let
  variable = import ./variable.nix { inherit lib name; };
in
{
  # A setting that names the file of a role's password, unless there is none.
  password =
    setting: id: file:
    lib.optionalAttrs (file != null) { ${setting} = { inherit id file; }; };
  # Settings that name a file, called as they are.
  named = lib.mapAttrs (
    setting: file: {
      id = setting;
      inherit file;
    }
  );
  environment =
    unit:
    lib.mapAttrs' (
      setting: { id, ... }: lib.nameValuePair (variable setting) "/run/credentials/${unit}.service/${id}"
    );
  load = lib.mapAttrsToList (_: { id, file }: "${id}:${file}");
}
