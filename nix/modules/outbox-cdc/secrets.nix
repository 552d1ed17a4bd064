# The directory of the passwords.
_:
{ lib, ... }:
{
  options.services.outbox-cdc.secretsDirectory = lib.mkOption {
    type = lib.types.externalPath;
    default = "/run/secrets";
    example = "/run/agenix";
    description = ''
      A directory outside the store with one file for each database role, named after the role, that contains its password.
      `passwordFiles` of a service can name other files. systemd reads the files; the users of the services need no access.
    '';
  };
}
