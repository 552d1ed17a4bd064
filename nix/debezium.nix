# Debezium's connector for PostgreSQL: the same archive that ./dev uses.
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
  # $out is an entry of `plugin.path`: a directory that contains the plugin's directory.
  installPhase = ''
    runHook preInstall
    mkdir -p $out/debezium-connector-postgres
    cp -r . $out/debezium-connector-postgres/
    runHook postInstall
  '';
  meta = {
    description = "Debezium's connector for PostgreSQL, a plugin of Kafka Connect";
    homepage = "https://debezium.io";
    license = lib.licenses.asl20;
    sourceProvenance = [ lib.sourceTypes.binaryBytecode ];
    platforms = lib.platforms.all;
  };
}
