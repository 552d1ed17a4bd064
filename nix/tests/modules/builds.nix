# What the build of a settings file or of the declared connectors refuses.
{
  lib,
  pkgs,
  configure,
}:
let
  # Succeeds if the build of a package fails, with its messages as the output.
  messagesOf =
    package:
    package.overrideAttrs (build: {
      name = "messages-of-${build.name}";
      module = build.buildCommand;
      buildCommand = ''
        if bash -euc "$module" 2> messages; then
          echo "the build succeeds and must fail" >&2
          exit 1
        fi
        rm -rf $out
        mv messages $out
      '';
    });
  settingsFileOf = module: (configure module).services.outbox-cdc.order.settingsFile;
  messagesOfSettings =
    settings:
    messagesOf (settingsFileOf {
      services.outbox-cdc.order = { inherit settings; };
    });
  messagesOfConnectors =
    credentials:
    messagesOf
      (configure { services.kafka-connect.credentials = lib.mkForce credentials; })
      .services.kafka-connect.connectorsDirectory;
in
{
  settings-refuse = pkgs.runCommand "settings-refuse" { } ''
    grep -F 'did you mean kafka.max_batch' ${messagesOfSettings { kafka.max_bacth = 7; }}
    grep -F database.max_connections ${messagesOfSettings { database.max_connections = "many"; }}
    grep -F verify-full ${messagesOfSettings { database.sslrootcert = "/run/keys/authority.pem"; }}
    grep -F 'snapshot.delay.ms is refused' ${
      messagesOfSettings { connector.properties."snapshot.delay.ms" = "1000"; }
    }
    grep -F verify-full ${settingsFileOf (import ./tls.nix)}
    touch $out
  '';

  connectors-refuse = pkgs.runCommand "connectors-refuse" { } ''
    grep -F 'inventory-outbox refers to the credential inventory_cdc' ${
      messagesOfConnectors { order_cdc = "/run/secrets/order_cdc"; }
    }
    touch $out
  '';
}
