//! What a service implements: how it applies events.

use std::future::Future;

use serde::de::DeserializeOwned;
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use super::failure::Failure;
use crate::event::Outgoing;
use crate::message::Position;

/// Applies the events of a listener's topics to a service's own tables.
///
/// # Guarantees
/// The handler receives each event in exactly one transaction that commits. A transaction that fails leaves nothing behind, and
/// the listener delivers its batch again. Events of one key arrive in the order of their offsets, as long as the key stays in its
/// partition; a batch may hold events of several partitions and topics.
///
/// # Concurrency
/// The listener calls one handler from several tasks at once: for the in-flight batch, and for a dead letter that it retries
/// meanwhile. [`DeadLetters::redrive`](super::DeadLetters::redrive) calls it too, perhaps in another process.
///
/// # Panics
/// A panic makes the message poison, and the listener calls the handler again afterwards. A mutex that the panic poisoned would
/// make every later message poison as well, until the circuit breaker opens. A program built with `panic = "abort"` dies
/// instead, again at each restart.
///
/// ```
/// use outbox::Outgoing;
/// use outbox::listener::{Failure, Handler, Received};
/// use sqlx::postgres::PgTransaction;
///
/// #[derive(serde::Deserialize)]
/// #[serde(tag = "type", content = "payload")]
/// enum PaymentEvent {
///     #[serde(rename = "payment.received")]
///     Received { cents: i64 },
/// }
///
/// struct Ledger;
///
/// impl Handler for Ledger {
///     type Event = PaymentEvent;
///     const IGNORED_EVENT_TYPES: &'static [&'static str] = &["payment.reminded"];
///
///     async fn handle(
///         &self,
///         tx: &mut PgTransaction<'_>,
///         batch: &[Received<PaymentEvent>],
///     ) -> Result<Vec<Outgoing>, Failure> {
///         // One statement a batch, not one an event.
///         let cents: i64 = batch.iter().map(|received| match received.event {
///             PaymentEvent::Received { cents } => cents,
///         }).sum();
///         sqlx::query("update ledger set cents = cents + $1").bind(cents).execute(&mut **tx).await?;
///         Ok(Vec::new())
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// An enum, tagged as for [`crate::Event`]: its variants are the event types that the handler applies.
    type Event: DeserializeOwned + Send + Sync;

    /// Event types on the topics that the handler does not need. The listener settles their messages without effect. A message
    /// whose type is neither here nor in [`Handler::Event`] becomes a dead letter, so that no event is lost to a typing error.
    const IGNORED_EVENT_TYPES: &'static [&'static str] = &[];

    /// Applies `batch`, in the order of arrival, within `tx`, and returns the events to publish. The listener appends them to
    /// the outbox in the same transaction.
    ///
    /// # Bounds
    /// A transaction may take 30 s, a statement the server's `statement_timeout`, and a pause between two statements its
    /// `idle_in_transaction_session_timeout`. The listener delivers a batch that takes longer again in halves; a single event
    /// that takes longer counts as [`Failure::Unknown`].
    ///
    /// # Errors
    /// [`Failure`] says what becomes of the batch. `?` on a [`sqlx::Error`] classifies it by its SQLSTATE.
    fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<Self::Event>],
    ) -> impl Future<Output = Result<Vec<Outgoing>, Failure>> + Send;
}

/// An event as a [`Handler`] receives it.
///
/// Tests of a handler construct it:
///
/// ```
/// use outbox::listener::Received;
/// use outbox::message::Position;
///
/// let received = Received {
///     id: uuid::Uuid::now_v7(),
///     key: Some(b"account-7".to_vec()),
///     at: Position { topic: "payment".to_owned(), partition: 0, offset: 42 },
///     event: 100_i64,
/// };
/// assert_eq!(received.event, 100);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Received<E> {
    /// The event's id, under which the inbox records it.
    pub id: Uuid,
    /// The message's key, as raw bytes; none if the message has no key.
    pub key: Option<Vec<u8>>,
    /// The message's position in Kafka.
    pub at: Position,
    /// The decoded event.
    pub event: E,
}
