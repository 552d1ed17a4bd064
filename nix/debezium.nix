# Debezium's plugin for PostgreSQL, bit for bit that of the other route.
{
  lib,
  stdenvNoCC,
  fetchurl,
  version,
  hash,
}:
stdenvNoCC.mkDerivation {
  pname = "debezium-connector-postgres";
  inherit version;
  src = fetchurl {
    url = "mirror://maven/io/debezium/debezium-connector-postgres/${version}/debezium-connector-postgres-${version}-plugin.tar.gz";
    inherit hash;
  };
  dontConfigure = true;
  dontBuild = true;
  # `plugin.path` wants the folder above the plugin's own, which is $out.
  installPhase = ''
    runHook preInstall
    mkdir -p $out/debezium-connector-postgres
    cp -r . $out/debezium-connector-postgres/
    runHook postInstall
  '';
  meta = {
    description = "Reads PostgreSQL's write-ahead log for Kafka Connect";
    homepage = "https://debezium.io";
    license = lib.licenses.asl20;
    sourceProvenance = [ lib.sourceTypes.binaryBytecode ];
    platforms = lib.platforms.all;
  };
}
