# Addresses as URLs have them.
{ lib }:
rec {
  host = address: if lib.hasInfix ":" address then "[${address}]" else address;
  # Where one listens everywhere, it is found here.
  local =
    address:
    host (
      {
        "0.0.0.0" = "127.0.0.1";
        "::" = "::1";
      }
      .${address} or address
    );
}
