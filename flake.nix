{
  description = "Transactional outbox with change data capture: PostgreSQL, Debezium on Kafka Connect, Kafka";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    crane.url = "github:ipetkov/crane/v0.23.4";
  };

  outputs =
    {
      self,
      nixpkgs,
      crane,
    }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      parts = import ./nix/parts.nix { inherit lib; };
      # Calls f for each system with its packages.
      forAll =
        f:
        lib.genAttrs systems (
          system:
          let
            pkgs = nixpkgs.legacyPackages.${system};
            rust = import ./nix/rust.nix { inherit crane pkgs; };
            demo = import ./nix/demo.nix {
              inherit pkgs parts;
              inherit (rust) binaries;
            };
            examples = import ./nix/example { inherit self nixpkgs system; };
            packages = import ./nix/packages.nix { inherit rust demo; };
          in
          f {
            inherit
              self
              examples
              pkgs
              parts
              rust
              demo
              packages
              ;
          }
        );
    in
    {
      packages = forAll ({ packages, ... }: packages);
      apps = forAll (import ./nix/apps.nix);
      devShells = forAll (import ./nix/shell.nix);
      checks = forAll (import ./nix/checks.nix);
      formatter = forAll ({ pkgs, ... }: pkgs.nixfmt-tree);
      nixosModules = import ./nix/modules { inherit self parts; };
      # The machines of the documents, so that `nix flake check` evaluates them.
      nixosConfigurations = import ./nix/example {
        inherit self nixpkgs;
        system = "x86_64-linux";
      };
    };
}
