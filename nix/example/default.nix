# The configuration that the README shows, as one's own flake would use it. It is evaluated, and its parts are built, by the
# checks; a machine of one's own has a disk and a boot loader besides.
{ self, nixpkgs }:
nixpkgs.lib.nixosSystem {
  system = "x86_64-linux";
  specialArgs.outbox-cdc = self;
  modules = [
    ./configuration.nix
    {
      boot.isContainer = true;
      system.stateVersion = "26.05";
    }
  ];
}
