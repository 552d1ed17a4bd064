# Where the passwords of all roles are, unless told otherwise.
_:
{ lib, ... }:
{
  options.services.outbox-cdc.secretsDirectory = lib.mkOption {
    type = lib.types.externalPath;
    default = "/run/secrets";
    example = "/run/agenix";
    description = ''
      A folder outside the store with a file for each role of a database, named like the role, that holds its password.
      Each can be told another file. systemd reads them; the services' users need not be able to.
    '';
  };
}
