# TLS to PostgreSQL and Kafka. The build has none of the files.
{
  services.outbox-cdc.order = {
    settings = {
      database = {
        sslmode = "verify-full";
        sslrootcert = "/run/keys/authority.pem";
        sslcert = "/run/keys/order.pem";
      };
      kafka.properties = {
        "security.protocol" = "SSL";
        "ssl.ca.location" = "/run/keys/authority.pem";
        "ssl.certificate.location" = "/run/keys/order.pem";
      };
    };
    credentials = {
      "database.sslkey" = "/run/keys/order.key";
      "kafka.property_files.ssl.key.pem" = "/run/keys/order.key";
    };
  };
}
