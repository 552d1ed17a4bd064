# What the modules accept and refuse, each case on top of the example of a whole system on one machine.
{ pkgs, examples, ... }:
let
  inherit (pkgs) lib;
  inherit (import ./evaluate.nix { inherit lib example; }) configure unitsOf failures;
  example = examples.single;

  assertions = import ./assertions.nix { inherit lib pkgs; };
  types = import ./types.nix { inherit lib pkgs; };
  accepted = import ./accepted.nix { inherit lib; };

  failsAssertion =
    { says, ... }@case:
    let
      messages = failures (removeAttrs case [ "says" ]);
    in
    messages != null && lib.any (lib.hasInfix says) messages;
  failsType =
    {
      bad,
      good,
      module,
    }:
    failures (module bad) == null && failures (module good) == [ ];
  namesWhere = holds: cases: lib.attrNames (lib.filterAttrs (_: holds) cases);
  wrong =
    namesWhere (case: !failsAssertion case) assertions
    ++ namesWhere (case: !failsType case) types
    ++ namesWhere (case: failures case != [ ]) accepted;
in
{
  modules-refuse =
    if failures { } != [ ] then
      throw "the modules refuse the example"
    else if wrong != [ ] then
      throw "these cases are refused and must be accepted, or are accepted and must be refused: ${lib.concatStringsSep "; " wrong}"
    else
      pkgs.runCommand "modules-refuse" { cases = lib.attrNames (assertions // types); } ''
        printf 'refused: %s\n' "$cases" > $out
      '';
}
// import ./builds.nix { inherit lib pkgs configure; }
# Builds everything that the units of the examples name.
// lib.mapAttrs' (
  name: configuration:
  lib.nameValuePair "example-${name}" (
    pkgs.writeText "example-${name}.json" (builtins.toJSON (unitsOf configuration.config))
  )
) examples
