# The program `stack`, as ./dev runs it, on the parts of nixpkgs; and `demo`, one of its commands.
{
  pkgs,
  binaries,
  debezium-connector-postgres,
}:
let
  kafka = pkgs.apacheKafka;
in
rec {
  stack = pkgs.writeShellApplication {
    name = "stack";
    runtimeInputs = [ pkgs.coreutils ];
    runtimeEnv = {
      STACK_BINARIES = "${binaries}/bin";
      STACK_KAFKA = "${kafka}/libs";
      STACK_PLUGINS = "${debezium-connector-postgres}";
      STACK_POSTGRES = "${pkgs.postgresql_18}/bin";
      JAVA_HOME = "${kafka.passthru.jre.home}";
    };
    text = ''
      # There may be no checkout to keep state in.
      export STACK_HOME="''${STACK_HOME:-''${XDG_STATE_HOME:-$HOME/.local/state}/outbox-cdc}"
      exec ${binaries}/bin/stack "$@"
    '';
    meta = binaries.meta // {
      description = "Starts the whole real stack on this machine and controls it";
    };
  };
  demo = pkgs.writeShellApplication {
    name = "demo";
    text = ''
      exec ${pkgs.lib.getExe stack} demo "$@"
    '';
    meta = binaries.meta // {
      description = "Starts everything, places orders, shows what becomes of them";
    };
  };
}
