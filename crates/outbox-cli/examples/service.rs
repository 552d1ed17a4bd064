//! A service with an outbox and a listener. libpq's variables (`PGHOST`, `PGPASSWORD`, …) say where its database is.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use outbox::listener::{DeadLetters, Failure, Handler, Received, RetryPolicy};
use outbox::schema::{self, Part, Roles};
use outbox::specification::{Invalid, Outline, Settings, Specification};
use outbox::{Outgoing, Retention};
use outbox_cli::publisher::BoxError;
use outbox_cli::{dead_letters, publisher};
use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgTransaction};
use sqlx::{ConnectOptions, PgConnection};
use uuid::Uuid;

/// Marks orders as paid.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Publisher(publisher::Command),
    /// Manage the dead letters of topic `payment`
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "payload")]
enum PaymentEvent {
    #[serde(rename = "payment.captured")]
    Captured { order_id: Uuid },
}

struct Payments;

impl Handler for Payments {
    type Event = PaymentEvent;

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<PaymentEvent>],
    ) -> Result<Vec<Outgoing>, Failure> {
        for Received { event, .. } in batch {
            let PaymentEvent::Captured { order_id } = event;
            tracing::info!(%order_id, "order is paid");
            sqlx::query("update orders set paid = true where id = $1")
                .bind(order_id)
                .execute(&mut **tx)
                .await?;
        }
        Ok(Vec::new())
    }
}

fn outbox() -> Result<Specification, Invalid> {
    Specification::new(Outline {
        context: "order".to_owned(),
        address: ("127.0.0.1".to_owned(), 5432),
        database: "order_db".to_owned(),
        writers: vec!["order_service".to_owned()],
        keeper: "order_keeper".to_owned(),
        topics: vec!["order".to_owned()],
        retention: Retention::default(),
        settings: Settings::of_role("order_cdc"),
    })
}

fn database(role: publisher::Role) -> PgConnectOptions {
    PgConnectOptions::new().username(match role {
        publisher::Role::Owner => "order_owner",
        publisher::Role::Service => "order_service",
        publisher::Role::Keeper => "order_keeper",
    })
}

async fn migrate(owner: &mut PgConnection) -> Result<(), BoxError> {
    let parts = [Part::Publisher, Part::Listener];
    let roles = Roles::from(&outbox()?).listener("order_service");
    schema::migrate(owner, &parts, &roles).await?;
    let own = "create table if not exists orders (id uuid primary key, paid boolean not null default false);
               grant select, update on orders to order_service;";
    sqlx::raw_sql(own).execute(owner).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    match Arguments::parse().command {
        Command::Publisher(command) => {
            let connect = async |role| database(role).connect().await;
            let migrate = async |owner: &mut PgConnection| migrate(owner).await;
            command.run(&outbox()?, connect, migrate).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::DeadLetters(command) => {
            let service = database(publisher::Role::Service);
            let pool = PgPoolOptions::new().connect_lazy_with(service);
            let dead_letters = DeadLetters::new("payments", pool, Payments, RetryPolicy::default());
            Ok(command.run(&dead_letters).await?)
        }
    }
}
