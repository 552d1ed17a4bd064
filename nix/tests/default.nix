# The tests in virtual machines: each a script for the machines of `system.nix`.
{
  self,
  pkgs,
  parts,
  ...
}:
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
          ./world.py
          ./${name}.py
        ];
      }
    );
in
{
  # Where machines are emulated, each step takes many times as long.
  vm-flow = test "flow" 5400;
  vm-faults = test "faults" 7200;
}
