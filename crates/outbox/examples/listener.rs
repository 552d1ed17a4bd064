//! A listener: applies the publisher's events to a table of balances, exactly once in effect.
//!
//! `DATABASE_URL` names a database and its owner, `KAFKA` the brokers. Stop it with Ctrl-C.

use outbox::Outgoing;
use outbox::listener::{Config, Failure, Handler, Listener, Received};
use outbox::schema::{self, Part, Roles};
use sqlx::postgres::{PgPool, PgTransaction};
use tokio_util::sync::CancellationToken;

#[derive(serde::Deserialize)]
#[serde(tag = "type", content = "payload")]
enum PaymentEvent {
    #[serde(rename = "payment.received")]
    Received { account: String, cents: i64 },
}

struct Balances;

impl Handler for Balances {
    type Event = PaymentEvent;

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<PaymentEvent>],
    ) -> Result<Vec<Outgoing>, Failure> {
        let pairs = batch.iter().map(|received| match &received.event {
            PaymentEvent::Received { account, cents } => (account.as_str(), *cents),
        });
        let (accounts, cents): (Vec<&str>, Vec<i64>) = pairs.unzip();
        // One statement for all events, in the transaction that records them in the inbox.
        let add = "insert into balance as b select account, sum(cents)
                   from unnest($1::text[], $2::bigint[]) as p (account, cents) group by account
                   order by account on conflict (account) do update set cents = b.cents + excluded.cents";
        let add = sqlx::query(add).bind(accounts).bind(cents);
        add.execute(&mut **tx).await?;
        Ok(Vec::new()) // it publishes nothing itself
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    // A deployment does this once, as the database's owner, before the service starts.
    let mut owner = pool.acquire().await?;
    schema::migrate(&mut owner, &[Part::Listener], &Roles::default()).await?;
    let create = "create table if not exists balance (account text primary key, cents numeric)";
    sqlx::query(create).execute(&mut *owner).await?;
    drop(owner);

    let shutdown = CancellationToken::new();
    let config = Config::new(&std::env::var("KAFKA")?, "balances", "payment");
    let listener = tokio::spawn(Listener::new(&config, pool, Balances)?.run(shutdown.clone()));
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    Ok(listener.await??)
}
