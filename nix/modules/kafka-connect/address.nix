# Addresses in the form that URLs have.
{ lib }:
rec {
  host = address: if lib.hasInfix ":" address then "[${address}]" else address;
  # The loopback address for a listener on all addresses.
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
