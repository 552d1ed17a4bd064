# Waits up to a minute for a broker that accepts connections. A JVM that finds no broker takes long to fail, and meanwhile
# slows down a broker that starts on the same machine.
{ lib, pkgs }:
servers:
pkgs.writeShellScript "wait-for-kafka" ''
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
  echo "no broker accepts connections at ${servers}; start Kafka or correct services.kafka-connect.settings.\"bootstrap.servers\"" >&2
  exit 1
''
