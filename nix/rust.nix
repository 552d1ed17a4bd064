# How the workspace is built: one build of the dependencies, on which everything else rests.
{ crane, pkgs }:
let
  inherit (pkgs) lib;
  inherit (lib) fileset;
  craneLib = crane.mkLib pkgs;
  root = ../.;
  manifest = lib.importTOML (root + "/Cargo.toml");

  # What the compiler reads, and what the tests read but documents.
  sources = fileset.unions [
    (fileset.intersection (craneLib.fileset.commonCargoSources root) (
      fileset.unions [
        (root + "/Cargo.toml")
        (root + "/Cargo.lock")
        (root + "/.clippy.toml")
        (root + "/.config")
        (root + "/crates")
      ]
    ))
    (root + "/crates/outbox/migrations")
    (root + "/crates/outbox/tests/golden")
    (root + "/crates/stack/parts")
    (root + "/migrations")
    # What sqlx knows of the queries; there is none while no query is checked at compile time.
    (fileset.maybeMissing (root + "/.sqlx"))
  ];
  # Documents that rustdoc shows, or that a test holds to the code. Only what checks them is done again when they change.
  documents = fileset.unions [
    (root + "/README.md")
    (root + "/crates/outbox/README.md")
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
    # librdkafka's own copy, built by CMake, with TLS and SCRAM (openssl), OAuth (curl) and gzip (zlib).
    nativeBuildInputs = [
      pkgs.cmake
      pkgs.pkg-config
    ];
    buildInputs = [
      pkgs.openssl
      pkgs.curl
      pkgs.zlib
    ];
    # CMake is for that crate's build script; its setup hook must not take the place of cargo.
    dontUseCmakeConfigure = true;
    env.SQLX_OFFLINE = "true";
    # Features are united over the whole workspace, so that the dependencies are those of the one build.
    cargoExtraArgs = "--locked --workspace";
  };
  cargoArtifacts = craneLib.buildDepsOnly common;
  built = common // {
    inherit cargoArtifacts;
  };

  # Every binary of the workspace, in one build; the tests are checks of their own.
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
  # With the documents that are checked.
  documented = built // {
    src = toSource (fileset.union sources documents);
  };

  # The one of a crate, with the crate's own words.
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
