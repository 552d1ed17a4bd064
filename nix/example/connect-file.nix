{ stdenvNoCC, fetchurl }:
stdenvNoCC.mkDerivation rec {
  pname = "connect-file";
  version = "4.2.0";
  src = fetchurl {
    url = "mirror://maven/org/apache/kafka/connect-file/${version}/connect-file-${version}.jar";
    hash = "sha256-1L7lpF++lYbJDw02lItQwGQr+72Kq5DWtOW2ZnzODfw=";
  };
  dontUnpack = true;
  installPhase = "install -D -m 644 $src $out/connect-file/connect-file-${version}.jar";
}
