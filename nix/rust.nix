# The build of the workspace: the dependencies once, then the binaries and the checks on top of them.
{ crane, pkgs }:
let
  inherit (pkgs) lib;
  inherit (lib) fileset;
  craneLib = crane.mkLib pkgs;
  root = ../.;
  manifest = lib.importTOML (root + "/Cargo.toml");

  isDocument = file: file.hasExt "md";
  crates = root + "/crates";
  # What the compiler and the tests read, except documents: a change of a document rebuilds no program.
  sources = fileset.unions [
    (root + "/Cargo.toml")
    (root + "/Cargo.lock")
    (root + "/.clippy.toml")
    (root + "/.config")
    (fileset.difference crates (fileset.fileFilter isDocument crates))
    (root + "/migrations")
    # sqlx's data for queries that are checked at compile time; there are none yet.
    (fileset.maybeMissing (root + "/.sqlx"))
  ];
  # The documents that rustdoc includes or a test compares with the code.
  documents = fileset.unions [
    (root + "/README.md")
    (root + "/docs")
    (fileset.maybeMissing (root + "/CONTRIBUTING.md"))
    (fileset.maybeMissing (root + "/CHANGELOG.md"))
    (fileset.fileFilter isDocument crates)
  ];
  toSource =
    files:
    fileset.toSource {
      inherit root;
      fileset = files;
    };

  common = {
    pname = "outbox-cdc";
    inherit (manifest.workspace.package) version;
    src = toSource sources;
    strictDeps = true;
    # For the bundled librdkafka: CMake builds it with TLS and SCRAM (openssl), OAuth (curl) and gzip (zlib).
    nativeBuildInputs = [
      pkgs.cmake
      pkgs.pkg-config
    ];
    buildInputs = [
      pkgs.openssl
      pkgs.curl
      pkgs.zlib
    ];
    # Only librdkafka's build script uses CMake; its setup hook would replace cargo's configure phase.
    dontUseCmakeConfigure = true;
    env.SQLX_OFFLINE = "true";
    # Feature unification over the whole workspace, so that every build shares the compiled dependencies.
    cargoExtraArgs = "--locked --workspace";
  };
  cargoArtifacts = craneLib.buildDepsOnly common;
  built = common // {
    inherit cargoArtifacts;
  };

  # Every binary of the workspace, in one build. The checks run the tests.
  binaries = craneLib.buildPackage (
    built
    // {
      cargoBuildExtraArgs = "--bins";
      doCheck = false;
      meta.license = [
        lib.licenses.mit
        lib.licenses.asl20
      ];
    }
  );
in
{
  inherit
    craneLib
    cargoArtifacts
    built
    binaries
    ;
  # With the documents.
  documented = built // {
    src = toSource (fileset.union sources documents);
  };

  # The package of one binary, with the description of its crate.
  binary =
    name:
    let
      crate = lib.importTOML (root + "/crates/${name}/Cargo.toml");
    in
    pkgs.runCommand "${name}-${binaries.version}"
      {
        pname = name;
        inherit (binaries) version;
        meta = binaries.meta // {
          inherit (crate.package) description;
          mainProgram = name;
          platforms = lib.platforms.linux;
        };
      }
      ''
        install -D -t $out/bin ${binaries}/bin/${name}
      '';
}
