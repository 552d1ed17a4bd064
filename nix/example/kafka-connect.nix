{ outbox-cdc, pkgs, ... }:
{
  imports = [ outbox-cdc.nixosModules.kafka-connect ];
  services.kafka-connect = {
    enable = true;
    settings."bootstrap.servers" = "kafka.example.org:9092";
    plugins = [
      outbox-cdc.packages.${pkgs.stdenv.hostPlatform.system}.debezium-connector-postgres
      (pkgs.callPackage ./connect-file.nix { })
    ];
    credentials.shop_cdc = "/run/secrets/shop_cdc";
    connectors = {
      shop = {
        config = {
          "connector.class" = "io.debezium.connector.postgresql.PostgresConnector";
          "database.hostname" = "db.example.org";
          "database.dbname" = "shop";
          "database.user" = "shop_cdc";
          "database.password" = "\${dir:/run/credentials/kafka-connect.service:shop_cdc}";
          "plugin.name" = "pgoutput";
          "topic.prefix" = "shop";
          "table.include.list" = "public.customers";
          "key.converter" = "org.apache.kafka.connect.json.JsonConverter";
          "value.converter" = "org.apache.kafka.connect.json.JsonConverter";
        };
        topics."shop.public.customers" = {
          partitions = 6;
          replicationFactor = 3;
        };
      };
      os-release.config = {
        "connector.class" = "org.apache.kafka.connect.file.FileStreamSourceConnector";
        file = "/etc/os-release";
        topic = "os-release";
      };
    };
  };
}
