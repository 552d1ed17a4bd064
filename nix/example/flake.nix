{
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    outbox-cdc.url = "git+https://git.example.org/outbox-cdc"; # the address of this repository
  };

  outputs =
    {
      self,
      nixpkgs,
      outbox-cdc,
    }:
    let
      machine =
        configuration:
        nixpkgs.lib.nixosSystem {
          system = "x86_64-linux";
          specialArgs = {
            inherit outbox-cdc;
            machines = self.nixosConfigurations;
          };
          modules = [
            configuration
            ./hardware-configuration.nix
          ];
        };
    in
    {
      nixosConfigurations = {
        # Kafka Connect alone.
        connect = machine ./kafka-connect.nix;
        # The whole system on one machine.
        single = machine ./configuration.nix;
        # The whole system on three machines.
        order = machine ./order.nix;
        inventory = machine ./inventory.nix;
        kafka = machine ./kafka.nix;
      };
    };
}
