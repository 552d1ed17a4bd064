# The programs `stack` and `bench`, on the PostgreSQL, Kafka and JRE of nixpkgs; and `demo`, a command of `stack`.
{
  pkgs,
  parts,
  binaries,
}:
let
  inherit (pkgs) lib;
  kafka = pkgs.apacheKafka;
  debezium-connector-postgres = pkgs.callPackage ./debezium.nix {
    inherit (parts.debezium) version hash;
  };
  # Where `stack` finds the third-party parts.
  environment = {
    STACK_KAFKA = "${kafka}/libs";
    STACK_PLUGINS = "${debezium-connector-postgres}";
    STACK_POSTGRES = "${pkgs.postgresql_18}/bin";
    # The JRE that nixpkgs runs Kafka with.
    JAVA_HOME = "${kafka.passthru.jre}";
  };
  # A program of the workspace, on those parts.
  onParts =
    name: description:
    pkgs.writeShellApplication {
      inherit name;
      runtimeInputs = [ pkgs.coreutils ];
      runtimeEnv = environment // {
        STACK_BINARIES = "${binaries}/bin";
        STACK_COMMAND = "nix run .#stack --";
      };
      text = ''
        # There may be no checkout for the state.
        export STACK_HOME="''${STACK_HOME:-''${XDG_STATE_HOME:-$HOME/.local/state}/outbox-cdc}"
        exec ${binaries}/bin/${name} "$@"
      '';
      meta = binaries.meta // {
        inherit description;
      };
    };
in
rec {
  inherit debezium-connector-postgres environment;
  stack = onParts "stack" "Starts the whole real stack on this machine and controls it";
  bench = onParts "bench" "Measures what the broker's flush and the library's listener cost";
  demo = pkgs.writeShellApplication {
    name = "demo";
    text = ''
      exec ${lib.getExe stack} demo "$@"
    '';
    meta = binaries.meta // {
      description = "Starts the whole stack, places orders and shows their way";
    };
  };
}
