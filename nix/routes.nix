# That both ways to run, ./dev and Nix, are one system. What can be known without building is compared while the flake is
# evaluated; what the programs say of themselves is compared by routes.py.
{
  pkgs,
  parts,
  rust,
  packages,
  ...
}:
let
  inherit (pkgs) lib;
  inherit (packages) debezium-connector-postgres;
  kafka = pkgs.apacheKafka.version;
  postgresql = pkgs.postgresql_18.version;
  documents = lib.filter (file: lib.hasSuffix ".md" file) (
    lib.filesystem.listFilesRecursive rust.built.src
  );

  # What is not so: what is wrong, in words.
  wrong = lib.concatLists [
    (lib.optional (
      !parts.accepted.kafka kafka
    ) "Kafka ${kafka} of nixpkgs is not in ${builtins.toJSON parts.routes.accepted.kafka}")
    (lib.optional (!parts.accepted.postgresql postgresql)
      "PostgreSQL ${postgresql} of nixpkgs is not in ${builtins.toJSON parts.routes.accepted.postgresql}"
    )
    (lib.optional (
      debezium-connector-postgres.version != parts.debezium.version
    ) "Debezium is ${debezium-connector-postgres.version}, but ${parts.debezium.version} in pom.xml")
    (map (file: "the document ${file} is in the source of the programs") documents)
  ];

  expected = {
    inherit (parts) routes;
    programs = lib.mapAttrs (_name: lib.getExe) {
      inherit (packages) order inventory inventory-worker;
    };
    archive = "${debezium-connector-postgres.src}";
    parts = "${rust.built.src}/crates/stack/parts";
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
