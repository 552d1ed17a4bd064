//! A publisher: changes its data and appends an event, in one transaction.
//!
//! `DATABASE_URL` names a database and its owner, `CDC_ROLE` the role that Debezium connects as.
//! Run it as often as you like: `cargo run --example publisher -- alice 2500`

use outbox::schema::{self, Part, Roles};
use outbox::{Event, Outgoing, append};
use uuid::Uuid;

/// The variant's name is the event's type, its content the payload.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", content = "payload")]
enum PaymentEvent {
    #[serde(rename = "payment.received")]
    Received(Payment),
}

#[derive(serde::Serialize, serde::Deserialize, Clone)]
struct Payment {
    id: Uuid,
    account: String,
    cents: i64,
}

impl Event for PaymentEvent {
    const AGGREGATE_TYPE: &'static str = "payment"; // the topic

    fn id(&self) -> Uuid {
        let Self::Received(payment) = self;
        payment.id
    }

    fn aggregate_id(&self) -> String {
        let Self::Received(payment) = self;
        payment.account.clone() // the message's key: an account's events keep their order
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let account = std::env::args().nth(1).ok_or("which account?")?;
    let cents = std::env::args().nth(2).ok_or("how many cents?")?.parse()?;
    let pool = sqlx::PgPool::connect(&std::env::var("DATABASE_URL")?).await?;

    // A deployment does this once, as the database's owner, before the service starts.
    let cdc = std::env::var("CDC_ROLE")?;
    let roles = Roles::default().topic("payment").cdc(cdc);
    schema::migrate(&mut *pool.acquire().await?, &[Part::Publisher], &roles).await?;
    let create = "create table if not exists payment (id uuid primary key, cents bigint)";
    sqlx::query(create).execute(&pool).await?;

    let id = Uuid::now_v7();
    let mut tx = pool.begin().await?;
    let insert = sqlx::query("insert into payment (id, cents) values ($1, $2)");
    insert.bind(id).bind(cents).execute(&mut *tx).await?;
    let event = PaymentEvent::Received(Payment { id, account, cents });
    append(&mut tx, &[Outgoing::new(&event)?]).await?;
    Ok(tx.commit().await?)
}
