# The tests in virtual machines, each a script for the machines of `system.nix`, and the checks of the modules.
{
  self,
  pkgs,
  parts,
  ...
}@args:
let
  inherit (pkgs) lib;
  test =
    name: globalTimeout:
    pkgs.testers.runNixOSTest (
      import ./system.nix {
        inherit
          self
          parts
          name
          globalTimeout
          ;
        script = lib.concatMapStringsSep "\n" builtins.readFile [
          ./machines.py
          ./orders.py
          ./${name}.py
        ];
      }
    );
in
{
  # The timeouts allow for emulated machines, which are many times slower.
  vm-flow = test "flow" 5400;
  vm-faults = test "faults" 7200;
}
// import ./modules args
