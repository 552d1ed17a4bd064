# The configuration that the README shows, as one's own flake would use it. The checks evaluate it, and build what its units
# name; a machine of one's own has a disk and a boot loader besides.
{
  self,
  nixpkgs,
  system ? "x86_64-linux",
}:
nixpkgs.lib.nixosSystem {
  inherit system;
  specialArgs.outbox-cdc = self;
  modules = [
    ./configuration.nix
    {
      boot.isContainer = true;
      system.stateVersion = "26.05";
    }
  ];
}
