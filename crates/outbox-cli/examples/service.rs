//! A service with the commands of its listener. It reaches its database by libpq's variables (`PGHOST`, `PGPASSWORD`, …).

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use outbox::Outgoing;
use outbox::listener::{DeadLetters, Failure, Handler, Received, RetryPolicy};
use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgTransaction};
use uuid::Uuid;

/// Marks orders as paid.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look after the payments that were dead-lettered
    #[command(subcommand)]
    DeadLetters(outbox_cli::Command),
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

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    match Arguments::parse().command {
        Command::DeadLetters(command) => {
            let options = PgConnectOptions::new().username("order_owner");
            let pool = PgPoolOptions::new().connect_lazy_with(options);
            let dead_letters = DeadLetters::new("payments", pool, Payments, RetryPolicy::default());
            Ok(command.run(&dead_letters).await?)
        }
    }
}
