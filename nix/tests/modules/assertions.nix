# Configurations that fail an assertion, each with a part of its message (`says`).
{ lib, pkgs }:
{
  "a connector has a password in plain text" = {
    says = "plain: database.password would be in the store";
    services.kafka-connect.connectors.plain.config = {
      "connector.class" = "io.debezium.connector.postgresql.PostgresConnector";
      "database.password" = "secret";
    };
  };
  "a connector has a password that starts like a reference" = {
    says = "plain: database.password would be in the store";
    services.kafka-connect.connectors.plain.config."database.password" = "secret\${";
  };
  "a connector has a password in a URL" = {
    says = "plain: connection.url would be in the store";
    services.kafka-connect.connectors.plain.config."connection.url" =
      "jdbc:postgresql://user:secret@db.example.org/orders";
  };
  "the worker has a password in plain text" = {
    says = "sasl.jaas.config would be in the store";
    services.kafka-connect.settings."sasl.jaas.config" =
      "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"connect\" password=\"secret\";";
  };
  "a property has the word secret within its name" = {
    says = "plain: aws.secret.access.key.id would be in the store";
    services.kafka-connect.connectors.plain.config."aws.secret.access.key.id" = "secret";
  };
  "a service has a password in plain text" = {
    says = "services.outbox-cdc.order.settings: sasl.password would be in the store";
    services.outbox-cdc.order.settings.kafka.properties."sasl.password" = "secret";
  };
  "the connector of a service has a password in plain text" = {
    says = "services.outbox-cdc.order.settings: connector.password would be in the store";
    services.outbox-cdc.order.settings.connector.password = "secret";
  };
  "the HTTP address of a service has no port" = {
    says = "`0.0.0.0` has no port at its end";
    services.outbox-cdc.order.settings.http.listen = "0.0.0.0";
    services.outbox-cdc.order.openFirewall = true;
  };
  "a broker advertises the loopback address to other machines" = {
    says = "`127.0.0.1` sends clients on other machines to themselves";
    services.outbox-cdc.broker.listenAddress = "0.0.0.0";
  };
  "the access rules are overridden" = {
    says = "its access rules are not in services.postgresql.authentication";
    services.postgresql.authentication = lib.mkForce "host all all 127.0.0.1/32 trust";
  };
  "the write-ahead log is not logical" = {
    says = "wal_level is not `logical`";
    services.postgresql.settings.wal_level = "replica";
  };
  "a role has no password on the machine that creates the database" = {
    says = "every role needs a password";
    services.outbox-cdc.order.passwordFiles.order_keeper = null;
  };
  "the name of the database needs quotes" = {
    says = "`order-db` would need quotes";
    services.outbox-cdc.order.settings.database.name = "order-db";
  };
  "PostgreSQL is too old" = {
    says = "PostgreSQL 16.9 is not accepted";
    services.postgresql.package = lib.mkForce (pkgs.postgresql_17 // { version = "16.9"; });
  };
  "Kafka is too new" = {
    says = "Kafka 2.13-5.0.0 is not accepted";
    services.kafka-connect.package = pkgs.apacheKafka // {
      version = "2.13-5.0.0";
    };
  };
}
