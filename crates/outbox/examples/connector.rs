//! The connector that carries the publisher's events to Kafka, as JSON for Kafka Connect's REST API:
//! `cargo run --example connector | curl --json @- http://127.0.0.1:8083/connectors`
//!
//! Kafka Connect has Debezium's PostgreSQL plugin. `CDC_ROLE` has LOGIN and REPLICATION, and `CDC_PASSWORD` refers to its
//! password by one of Kafka Connect's config providers, for example `${dir:/run/secrets:payment_cdc}`.
#![expect(clippy::print_stdout, reason = "it is its output")]

use std::env::var;

use outbox::Retention;
use outbox::specification::{Outline, PasswordReference, Settings, Specification};
use sqlx::postgres::PgConnectOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database: PgConnectOptions = var("DATABASE_URL")?.parse()?;
    // `Specification::check` compares a database with it, and `schema::migrate` takes its roles.
    let specification = Specification::new(Outline {
        context: "payment".to_owned(),
        address: (database.get_host().to_owned(), database.get_port()),
        database: database.get_database().unwrap_or("payment_db").to_owned(),
        writers: vec!["payment_service".to_owned()],
        keeper: "payment_keeper".to_owned(),
        topics: vec!["payment".to_owned()],
        retention: Retention::default(),
        settings: Settings {
            password: PasswordReference::parse(&var("CDC_PASSWORD")?)?,
            ..Settings::of_role(&var("CDC_ROLE")?)
        },
    })?;
    let connector = specification.to_json();
    let (name, config) = (&connector["name"], &connector["config"]);
    println!("{}", serde_json::json!({ "name": name, "config": config }));
    Ok(())
}
