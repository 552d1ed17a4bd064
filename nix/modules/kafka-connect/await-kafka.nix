# Waits a while until a broker can be reached: a JVM that starts to find nobody takes long, and keeps a broker on the same
# machine from becoming ready.
{ lib, pkgs }:
servers:
pkgs.writeShellScript "await-kafka" ''
  IFS=, read -ra servers <<< ${lib.escapeShellArg servers}
  for _ in {1..60}; do
    for server in "''${servers[@]}"; do
      server=''${server##*://}
      host=''${server%:*}
      host=''${host#[}
      export host=''${host%]} port=''${server##*:}
      if ${pkgs.coreutils}/bin/timeout 5 ${pkgs.runtimeShell} -c ': 3<> "/dev/tcp/$host/$port"' 2> /dev/null; then
        exit
      fi
    done
    ${pkgs.coreutils}/bin/sleep 1
  done
  echo "no broker answers at ${servers}; is Kafka up, and does services.kafka-connect.settings.\"bootstrap.servers\" name it?" >&2
  exit 1
''
