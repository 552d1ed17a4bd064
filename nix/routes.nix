# That both ways to run, ./dev and Nix, are one system. What can be known without building is compared while the flake is
# evaluated; what the programs say of themselves, and what was fetched, by routes.py.
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
  # Everything on one machine but the databases, as far as it can go without being told anything.
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
  # The machine that holds a context's database.
  database =
    context:
    machine {
      services.outbox-cdc.${context} = {
        enable = true;
        database.createLocally = true;
      };
    };

  # What is wrong, in words.
  differs =
    what: found: wanted:
    lib.optional (
      found != wanted
    ) "${what}: ${builtins.toJSON found} with Nix, ${builtins.toJSON wanted} for both";
  differ =
    what: found: wanted:
    lib.concatLists (
      lib.mapAttrsToList (name: differs "${what}, ${name}" (found.${name} or null)) wanted
    );
  # As a line of a .properties file has it.
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
      } for both";

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
    (differs "heap of Connect" kafka-connect.heap routes.heap.connect_mib)
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
    # A document among what the programs are built from would have them built anew when it changes.
    (map (file: "${file} is a document in the source of the programs") (
      lib.filter (lib.hasSuffix ".md") (lib.filesystem.listFilesRecursive rust.built.src)
    ))
  ];
  contexts = [
    "order"
    "inventory"
  ];

  # What routes.py compares.
  expected = {
    inherit routes;
    programs = lib.mapAttrs (_name: lib.getExe) {
      inherit (packages) order inventory inventory-worker;
    };
    # What each service is told by its module.
    settings = lib.mapAttrs (name: _: outbox-cdc.${name}.settings) expected.programs;
    connectors = "${kafka-connect.connectorsFolder}";
    roles = lib.genAttrs contexts (context: lib.attrNames outbox-cdc.${context}.passwordFiles);
    archive = "${debezium-connector-postgres.src}";
    source = "${rust.built.src}";
  };
in
# Every line of the files is read, whoever uses it.
builtins.deepSeq { inherit (parts) broker worker routes; } (
  if wrong != [ ] then
    throw "the two ways to run differ:\n${lib.concatLines wrong}"
  else
    pkgs.runCommand "routes" { nativeBuildInputs = [ pkgs.python3 ]; } ''
      python3 ${./routes.py} ${pkgs.writeText "expected.json" (builtins.toJSON expected)}
      touch $out
    ''
)
