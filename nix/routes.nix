# Checks that ./dev and Nix run the same system. The evaluation compares versions and settings; the build runs routes.py,
# which compares what the programs print and what was downloaded.
{
  self,
  pkgs,
  parts,
  rust,
  packages,
  ...
}:
let
  inherit (pkgs) lib;
  inherit (parts) routes;
  inherit (packages) debezium-connector-postgres;
  loopback = port: "127.0.0.1:${toString port}";

  machine =
    configuration:
    (pkgs.nixos [
      self.nixosModules.default
      configuration
      { system.stateVersion = lib.trivial.release; }
    ]).config;
  # All modules on one machine with their defaults, without the databases.
  system = machine (
    { config, ... }:
    {
      services.outbox-cdc =
        lib.genAttrs
          [
            "broker"
            "order"
            "inventory"
            "inventory-worker"
          ]
          (_: {
            enable = true;
          });
      services.kafka-connect = {
        enable = true;
        connectorFiles = [
          config.services.outbox-cdc.order.connector
          config.services.outbox-cdc.inventory.connector
        ];
      };
    }
  );
  inherit (system.services) apache-kafka kafka-connect outbox-cdc;
  # A machine with a context's database.
  database =
    context:
    machine {
      services.outbox-cdc.${context} = {
        enable = true;
        database.createLocally = true;
      };
    };

  # The differences, as messages.
  differs =
    what: found: wanted:
    lib.optional (
      found != wanted
    ) "${what}: ${builtins.toJSON found} with Nix, ${builtins.toJSON wanted} in crates/stack/parts";
  differ =
    what: found: wanted:
    lib.concatLists (
      lib.mapAttrsToList (name: differs "${what}, ${name}" (found.${name} or null)) wanted
    );
  # A value in the format of a .properties file.
  text =
    value:
    if lib.isList value then
      lib.concatMapStringsSep "," text value
    else if lib.isBool value then
      lib.boolToString value
    else
      toString value;
  accepted =
    what: name: version:
    lib.optional (!parts.accepted.${name} version)
      "${what}: ${version} with Nix, from ${
        lib.concatStringsSep " and below " routes.accepted.${name}
      } in crates/stack/parts";

  wrong = lib.concatLists [
    (accepted "Kafka of the demo" "kafka" pkgs.apacheKafka.version)
    (accepted "Kafka of the broker" "kafka" apache-kafka.package.version)
    (accepted "Kafka of Connect" "kafka" kafka-connect.package.version)
    (accepted "PostgreSQL of the demo" "postgresql" pkgs.postgresql_18.version)
    (differs "Debezium" debezium-connector-postgres.version parts.debezium.version)
    (differ "broker" (lib.mapAttrs (_: text) apache-kafka.settings) (
      parts.broker
      // {
        listeners = "INTERNAL://${loopback routes.ports.kafka_internal},EXTERNAL://${loopback routes.ports.kafka},CONTROLLER://${loopback routes.ports.kafka_controller}";
      }
    ))
    (differ "worker" (lib.mapAttrs (_: text) kafka-connect.settings) (
      parts.worker
      // {
        listeners = "http://${loopback routes.ports.connect}";
        "bootstrap.servers" = loopback routes.ports.kafka_internal;
      }
    ))
    (differs "heap of Connect" kafka-connect.maxHeapSize routes.heap.connect_mib)
    (differs "heap of the broker" (lib.filter (lib.hasPrefix "-Xmx") apache-kafka.jvmOptions) [
      "-Xmx${toString routes.heap.broker_mib}m"
    ])
    (lib.concatMap (
      context:
      let
        inherit ((database context).services) postgresql;
      in
      differ "PostgreSQL of ${context}" postgresql.settings routes.postgresql
      ++ accepted "PostgreSQL of ${context}" "postgresql" postgresql.package.version
    ) contexts)
    # A change of a document must not rebuild the programs.
    (map (file: "${file} is a document among the sources of the programs") (
      lib.filter (lib.hasSuffix ".md") (lib.filesystem.listFilesRecursive rust.built.src)
    ))
  ];
  contexts = [
    "order"
    "inventory"
  ];

  # The input of routes.py.
  expected = {
    inherit routes;
    programs = lib.mapAttrs (_name: lib.getExe) {
      inherit (packages) order inventory inventory-worker;
    };
    # The settings of each service, from its module.
    settings = lib.mapAttrs (name: _: outbox-cdc.${name}.settings) expected.programs;
    connectors = "${kafka-connect.connectorsDirectory}";
    roles = lib.genAttrs contexts (context: lib.attrNames outbox-cdc.${context}.passwordFiles);
    archive = "${debezium-connector-postgres.src}";
    source = "${rust.built.src}";
  };
in
# Evaluates every line of the files, so that an unused one is read too.
builtins.deepSeq { inherit (parts) broker worker routes; } (
  if wrong != [ ] then
    throw "./dev and Nix run different systems:\n${lib.concatLines wrong}"
  else
    pkgs.runCommand "routes" { nativeBuildInputs = [ pkgs.python3 ]; } ''
      python3 ${./routes.py} ${pkgs.writeText "expected.json" (builtins.toJSON expected)}
      touch $out
    ''
)
