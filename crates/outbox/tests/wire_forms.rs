//! The specification's wire forms as the real Debezium writes them: golden files, which decode to the event that was appended.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::{Duration, Instant};

use outbox::message::{Message, Position};
use outbox::schema::{self, Part, Roles};
use outbox::specification::{PasswordReference, Settings, Specification, WireForm};
use outbox::{Event, Outgoing, Retention, append};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use stack::testing::{self, Context, Description};
use stack::topic::{self, Carried};
use uuid::Uuid;

/// The time limit from the creation of a connector to its first message.
const WITHIN: Duration = Duration::from_secs(60);

const LEAN: &str = include_str!("golden/lean.json");
const ENVELOPE: &str = include_str!("golden/envelope.json");

const ID: Uuid = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);

#[derive(Serialize)]
#[serde(tag = "type", content = "payload")]
enum Note {
    #[serde(rename = "note.made")]
    Made {
        event_id: Uuid,
        number: i64,
        nothing: Option<i32>,
        list: Vec<i32>,
        text: &'static str,
    },
}

impl Event for Note {
    const AGGREGATE_TYPE: &'static str = "note";
    fn id(&self) -> Uuid {
        ID
    }
    fn aggregate_id(&self) -> String {
        "käy \"1\"".to_owned()
    }
}

/// Every kind of JSON value that a converter might change.
const NOTE: Note = Note::Made {
    event_id: ID,
    number: i64::MAX,
    nothing: None,
    list: Vec::new(),
    text: "ü \" \\ \n \u{1f980}",
};

/// The message that a connector of this form writes for [`NOTE`].
async fn captured(connect: &str, form: WireForm, exactly_once: bool) -> Carried {
    let stack = testing::stack().await;
    let database = testing::database(Context::Order).await;
    // Unique, because slots and topics are shared by all tests.
    let context = format!("wire_{}", Uuid::now_v7().simple());
    let mut owner = PgConnection::connect_with(&database.options("order_owner"))
        .await
        .unwrap();
    let secrets = stack.order_db.secrets.display();
    let reference = format!("${{dir:{secrets}/connect:order_cdc}}");
    let specification = Specification {
        context: context.clone(),
        address: (database.host.clone(), database.port),
        database: database.name.clone(),
        writers: vec!["order_service".to_owned()],
        keeper: "order_keeper".to_owned(),
        topics: vec![context.clone()],
        retention: Retention::default(),
        settings: Settings {
            password: PasswordReference::parse(&reference).unwrap(),
            wire_form: form,
            exactly_once,
            ..Settings::of_role("order_cdc")
        },
    };
    schema::migrate(&mut owner, &[Part::Publisher], &Roles::from(&specification))
        .await
        .unwrap();
    specification.check(&mut owner).await.unwrap();

    let mut writer = PgConnection::connect_with(&database.options("order_service"))
        .await
        .unwrap();
    let mut tx = writer.begin().await.unwrap();
    append(&mut tx, &[Outgoing::new(&NOTE).unwrap()])
        .await
        .unwrap();
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
    let mut carried = first_message(stack, &client, &name, &context).await;
    // The name of the envelope's schema contains the context.
    carried.value = carried.value.replace(&context, "wire");
    client.delete(&name).await.unwrap();
    drop_slot(&mut owner, &database, &specification.slot()).await;
    carried
}

async fn first_message(
    stack: &'static Description,
    client: &connect::Client,
    connector: &str,
    topic: &str,
) -> Carried {
    let deadline = Instant::now() + WITHIN;
    loop {
        let topic = topic.to_owned();
        let carried = tokio::task::spawn_blocking(move || topic::since(&stack.kafka, &topic, 0));
        match carried.await.unwrap() {
            Ok(carried) if !carried.is_empty() => {
                assert_eq!(carried.len(), 1);
                return carried.into_iter().next().unwrap();
            }
            _ => {}
        }
        assert!(
            Instant::now() < deadline,
            "no message: {:?}",
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

fn to_json(carried: &Carried) -> Value {
    json!({ "key": carried.key, "headers": carried.headers, "value": carried.value })
}

fn golden(file: &str) -> Value {
    serde_json::from_str(file).unwrap()
}

fn assert_matches_golden(carried: &Carried, file: &str) {
    let captured = to_json(carried);
    assert_eq!(captured, golden(file), "captured:\n{captured:#}");
}

#[tokio::test]
async fn the_lean_form_matches_its_golden_file() {
    let connect = &testing::stack().await.connect_url;
    assert_matches_golden(&captured(connect, WireForm::Lean, false).await, LEAN);
}

#[tokio::test]
async fn the_envelope_matches_its_golden_file() {
    let connect = &testing::stack().await.connect_url;
    assert_matches_golden(
        &captured(connect, WireForm::Envelope, false).await,
        ENVELOPE,
    );
}

/// Kafka transactions do not change the message.
#[tokio::test]
async fn exactly_once_writes_the_same_message() {
    let connect = testing::connect_exactly_once(testing::stack().await).await;
    assert_matches_golden(&captured(&connect, WireForm::Lean, true).await, LEAN);
}

#[test]
fn each_golden_file_decodes_to_the_appended_event() {
    for file in [LEAN, ENVELOPE] {
        let golden = golden(file);
        let headers: Vec<(String, Option<String>)> =
            serde_json::from_value(golden["headers"].clone()).unwrap();
        let message = Message {
            at: Position {
                topic: "note".to_owned(),
                partition: 0,
                offset: 0,
            },
            timestamp: None,
            key: Some(golden["key"].as_str().unwrap().into()),
            headers: headers
                .into_iter()
                .map(|(name, value)| (name, value.map(String::into_bytes)))
                .collect(),
            value: Some(golden["value"].as_str().unwrap().into()),
        };
        let decoded = message.decode().unwrap();
        assert_eq!((decoded.id, decoded.event_type.as_str()), (ID, "note.made"));
        let appended = serde_json::to_value(&NOTE).unwrap();
        assert_eq!(decoded.payload, appended["payload"]);
    }
}
