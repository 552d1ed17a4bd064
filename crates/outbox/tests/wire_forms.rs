//! The specification's wire forms as the real Debezium writes them: golden files, and what each event decodes to.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outbox::message::{Message, Position};
use outbox::schema::{self, Part, Roles};
use outbox::specification::{Outline, PasswordReference, Settings, Specification, WireForm};
use outbox::{Event, Outgoing, Retention, append};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use stack::testing::{self, Context, Description};
use stack::topic::{self, Carried};
use uuid::Uuid;

/// The time limit from the creation of a connector to its last message.
const WITHIN: Duration = Duration::from_secs(60);

const LEAN: &str = include_str!("golden/lean.json");
const ENVELOPE: &str = include_str!("golden/envelope.json");

const ID: Uuid = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
enum Note {
    #[serde(rename = "note.made")]
    Made {
        event_id: Uuid,
        number: i64,
        nothing: Option<i32>,
        list: Vec<i32>,
        text: String,
    },
    #[serde(rename = "note.text")]
    Text(String),
    #[serde(rename = "note.numbers")]
    Numbers(BTreeMap<i32, f64>, u64),
    #[serde(rename = "note.any")]
    Any(Value),
    #[serde(rename = "note.seen")]
    Seen,
}

/// A note with its own id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Numbered {
    #[serde(skip)]
    id: u16,
    note: Note,
}

impl Event for Numbered {
    const AGGREGATE_TYPE: &'static str = "note";
    fn id(&self) -> Uuid {
        match self.note {
            Note::Made { event_id, .. } => event_id,
            _ => Uuid::from_u128(ID.as_u128() + u128::from(self.id)),
        }
    }
    fn aggregate_id(&self) -> String {
        "käy \"1\"".to_owned()
    }
}

/// Every kind of JSON value that a converter might change.
fn made() -> Note {
    Note::Made {
        event_id: ID,
        number: i64::MAX,
        nothing: None,
        list: Vec::new(),
        text: "ü \" \\ \n \u{1f980}".to_owned(),
    }
}

/// [`made`], then payloads that a reader might take for something else.
fn notes() -> Vec<Note> {
    let numbers = [(-7, 1.577_777_777_777_000_1), (8, 1e16), (9, 5e-324)];
    vec![
        made(),
        Note::Text("123".to_owned()),
        Note::Text("\"q\"".to_owned()),
        Note::Text(String::new()),
        Note::Numbers(numbers.into(), u64::MAX),
        Note::Any(json!({ "event_type": "note.seen", "payload": "{}" })),
        Note::Any(json!({ "schema": {}, "payload": "{}" })),
        Note::Any(Value::Null),
        Note::Seen,
        // As large as the table takes: in the envelope a quote takes four bytes, an emoji twelve.
        Note::Text("\u{1f980}".repeat(83_300)),
        Note::Text("\"".repeat(249_900)),
        Note::Text("x".repeat(899_990)),
    ]
}

/// A migrated outbox that no connector reads yet, and its owner.
async fn outbox(
    form: WireForm,
    exactly_once: bool,
) -> (testing::Database, PgConnection, Specification) {
    let stack = testing::stack().await;
    let database = testing::database(Context::Order).await;
    // Unique, because slots and topics are shared by all tests.
    let context = format!("wire_{}", Uuid::now_v7().simple());
    let mut owner = PgConnection::connect_with(&database.options("order_owner"))
        .await
        .unwrap();
    let secrets = stack.order_db.secrets.display();
    let reference = format!("${{dir:{secrets}/connect:order_cdc}}");
    let specification = Specification::new(Outline {
        context: context.clone(),
        address: (database.host.clone(), database.port),
        database: database.name.clone(),
        writers: vec!["order_service".to_owned()],
        keeper: "order_keeper".to_owned(),
        // Rows have the event's own aggregate type at first.
        topics: vec![context, Numbered::AGGREGATE_TYPE.to_owned()],
        retention: Retention::default(),
        settings: Settings {
            password: PasswordReference::parse(&reference).unwrap(),
            wire_form: form,
            exactly_once,
            ..Settings::of_role("order_cdc")
        },
    })
    .unwrap();
    schema::migrate(&mut owner, &[Part::Publisher], &Roles::from(&specification))
        .await
        .unwrap();
    specification.check(&mut owner).await.unwrap();
    (database, owner, specification)
}

/// The messages that a connector of this form writes for [`notes`].
async fn captured(connect: &str, form: WireForm, exactly_once: bool) -> Vec<Carried> {
    let stack = testing::stack().await;
    let (database, mut owner, specification) = outbox(form, exactly_once).await;
    let context = specification.context.clone();
    let mut writer = PgConnection::connect_with(&database.options("order_service"))
        .await
        .unwrap();
    let mut tx = writer.begin().await.unwrap();
    let notes = (0..).zip(notes()).map(|(id, note)| Numbered { id, note });
    let rows: Vec<Outgoing> = notes.map(|it| Outgoing::new(&it).unwrap()).collect();
    append(&mut tx, &rows).await.unwrap();
    tx.commit().await.unwrap();
    // The topic derives from the aggregate type. No connector reads the row yet.
    sqlx::query("update outbox set aggregatetype = $1")
        .bind(&context)
        .execute(&mut owner)
        .await
        .unwrap();

    let client = connect::Client::new(connect).unwrap();
    let declared = specification.to_json();
    let (name, config) = (
        specification.name(),
        declared["config"].as_object().unwrap(),
    );
    client.put_config(&name, config).await.unwrap();
    let mut carried = messages(stack, &client, &name, &context, rows.len()).await;
    for message in &mut carried {
        // The name of the envelope's schema contains the context.
        message.value = message.value.replace(&context, "wire");
    }
    client.delete(&name).await.unwrap();
    drop_slot(&mut owner, &database, &specification.slot()).await;
    carried
}

/// The table refuses such a row; a superuser can insert it all the same.
#[tokio::test]
async fn kafka_connect_creates_no_topic_beyond_the_specification() {
    let stack = testing::stack().await;
    let (database, mut owner, specification) = outbox(WireForm::Lean, false).await;
    let (name, rogue) = (
        specification.name(),
        format!("rogue-{}", specification.context),
    );
    let unguarded = "alter table outbox drop constraint outbox_topics";
    sqlx::query(unguarded).execute(&mut owner).await.unwrap();
    sqlx::query(
        "insert into outbox (id, aggregatetype, aggregateid, type, payload) values ($1, $2, 'k', 'note.seen', '{}')",
    )
    .bind(Uuid::now_v7())
    .bind(&rogue)
    .execute(&mut owner)
    .await
    .unwrap();

    let client = connect::Client::new(&stack.connect_url).unwrap();
    let declared = specification.to_json();
    let config = declared["config"].as_object().unwrap();
    client.put_config(&name, config).await.unwrap();
    let deadline = Instant::now() + WITHIN;
    loop {
        let status = client.status(&name).await;
        if status
            .as_ref()
            .is_ok_and(|status| status.failure().is_some())
        {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the task did not fail: {status:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let created = tokio::task::spawn_blocking(move || topic::exists(&stack.kafka, &rogue));
    assert!(!created.await.unwrap().unwrap());
    client.delete(&name).await.unwrap();
    drop_slot(&mut owner, &database, &specification.slot()).await;
}

async fn messages(
    stack: &'static Description,
    client: &connect::Client,
    connector: &str,
    topic: &str,
    count: usize,
) -> Vec<Carried> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let topic = topic.to_owned();
        let carried = tokio::task::spawn_blocking(move || topic::since(&stack.kafka, &topic, 0));
        match carried.await.unwrap() {
            Ok(carried) if carried.len() >= count => {
                assert_eq!(carried.len(), count);
                return carried;
            }
            _ => {}
        }
        assert!(
            Instant::now() < deadline,
            "fewer than {count} messages: {:?}",
            client.status(connector).await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Drops the replication slot: the number of slots of a server is limited.
async fn drop_slot(owner: &mut PgConnection, database: &testing::Database, slot: &str) {
    let mut superuser = PgConnection::connect_with(&database.superuser())
        .await
        .unwrap();
    let deadline = Instant::now() + WITHIN;
    while let Err(error) = sqlx::query("select pg_drop_replication_slot($1)")
        .bind(slot)
        .execute(&mut superuser)
        .await
    {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    owner.ping().await.unwrap();
}

/// The first message is the one of the golden file, and each decodes to the note that was appended.
fn assert_faithful(carried: &[Carried], golden: &str) {
    let first = &carried[0];
    let first = json!({ "key": first.key, "headers": first.headers, "value": first.value });
    let golden: Value = serde_json::from_str(golden).unwrap();
    assert_eq!(first, golden, "captured:\n{first:#}");
    assert_eq!(carried.len(), notes().len());
    for ((id, note), carried) in (0..).zip(notes()).zip(carried) {
        let numbered = Numbered { id, note };
        let headers = carried.headers.iter().cloned();
        let decoded = message(&carried.key, headers.collect(), &carried.value).decode();
        let decoded = decoded.unwrap();
        assert_eq!(decoded.id, numbered.id());
        assert_eq!(
            decoded.into_event::<Note>().unwrap(),
            numbered.note,
            "{carried:?}"
        );
    }
}

fn message(key: &str, headers: Vec<(String, Option<String>)>, value: &str) -> Message {
    Message {
        at: Position {
            topic: "note".to_owned(),
            partition: 0,
            offset: 0,
        },
        timestamp: None,
        key: Some(key.into()),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name, value.map(String::into_bytes)))
            .collect(),
        value: Some(value.into()),
    }
}

#[tokio::test]
async fn the_lean_form_matches_its_golden_file() {
    let connect = &testing::stack().await.connect_url;
    assert_faithful(&captured(connect, WireForm::Lean, false).await, LEAN);
}

#[tokio::test]
async fn the_envelope_matches_its_golden_file() {
    let connect = &testing::stack().await.connect_url;
    assert_faithful(
        &captured(connect, WireForm::Envelope, false).await,
        ENVELOPE,
    );
}

/// Kafka transactions do not change the message.
#[tokio::test]
async fn exactly_once_writes_the_same_message() {
    let connect = testing::connect_exactly_once(testing::stack().await).await;
    assert_faithful(&captured(&connect, WireForm::Lean, true).await, LEAN);
}

#[test]
fn each_golden_file_decodes_to_the_appended_event() {
    for file in [LEAN, ENVELOPE] {
        let golden: Value = serde_json::from_str(file).unwrap();
        let headers = serde_json::from_value(golden["headers"].clone()).unwrap();
        let key = golden["key"].as_str().unwrap();
        let message = message(key, headers, golden["value"].as_str().unwrap());
        let decoded = message.decode().unwrap();
        assert_eq!((decoded.id, decoded.event_type.as_str()), (ID, "note.made"));
        assert_eq!(decoded.into_event::<Note>().unwrap(), made());
    }
}
