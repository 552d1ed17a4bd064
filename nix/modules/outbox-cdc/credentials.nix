# The secrets of a unit, by setting: the file of each (`file`) and the name of its systemd credential (`id`).
{ lib, name }:
let
  variable = import ./variable.nix { inherit lib name; };
in
{
  # The setting that names a role's password file; none if there is no such file.
  password =
    setting: id: file:
    lib.optionalAttrs (file != null) { ${setting} = { inherit id file; }; };
  # Settings that name a file; the credentials have the names of the settings.
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
