# Configurations that the modules accept.
{ lib }:
{
  "a JAAS configuration refers to its password" = {
    services.kafka-connect.settings."sasl.jaas.config" =
      "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"connect\" password=\"\${dir:/run/credentials/kafka-connect.service:kafka}\";";
  };
  "the worker has the URL of a token endpoint" = {
    services.kafka-connect.settings."sasl.oauthbearer.token.endpoint.url" = "https://example.org/token";
  };
  "a config provider is called secrets" = {
    services.kafka-connect.settings = {
      "config.providers" = "dir,secrets";
      "config.providers.secrets.class" = "org.example.Secrets";
    };
  };
  "the database is created and migrated elsewhere" = {
    services.outbox-cdc.order = {
      database.createLocally = lib.mkForce false;
      migrations.enable = false;
      passwordFiles.order_owner = null;
    };
  };
  "the connections to PostgreSQL and Kafka use TLS" = import ./tls.nix;
}
