# The machines of the example flake, for a system. docs/nixos.md shows the files of this directory; the checks evaluate the
# machines and build what their units name.
{
  self,
  nixpkgs,
  system,
}:
let
  # The example flake names one system.
  nixosSystem = arguments: nixpkgs.lib.nixosSystem (arguments // { inherit system; });
  outputs = (import ./flake.nix).outputs {
    self = outputs;
    nixpkgs.lib = nixpkgs.lib // {
      inherit nixosSystem;
    };
    outbox-cdc = self;
  };
in
outputs.nixosConfigurations
