//! A topic that is deleted and recreated at once, and refilled beyond the old position.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, TopicPartitionList};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::plan::{Action, Behavior, Plan, ToProduce};
use crate::topic::Topic;
use crate::unknown_failure::{eventually, within};

const KAFKA_WITHIN: Duration = Duration::from_secs(30);
const READ_WITHIN: Duration = Duration::from_secs(60);
/// Messages of the first topic, and how many more each later one has than the one before.
const FIRST: usize = 5;
const MORE: usize = 45;

const START: Action = Action::Start {
    listener: 0,
    max_batch: 20,
    delay_ms: 0,
};

/// The worker runs while the topic is recreated: all messages of each topic are applied.
pub(crate) async fn is_read_whole_by_a_running_worker(rounds: usize) -> Result<(), String> {
    let mut cluster = Cluster::open(&plan()).await;
    cluster.perform(&START).await;
    fill(&mut cluster, FIRST).await?;
    for round in 1..=rounds {
        recreate(&mut cluster).await;
        fill(&mut cluster, FIRST + round * MORE).await?;
    }
    cluster.check().await?;
    cluster.stop().await
}

/// The worker is away while the topic is recreated, and finds its offset of the old topic.
pub(crate) async fn is_read_whole_by_a_worker_that_was_away(rounds: usize) -> Result<(), String> {
    let mut cluster = Cluster::open(&plan()).await;
    cluster.perform(&START).await;
    fill(&mut cluster, FIRST).await?;
    for round in 1..=rounds {
        cluster.stop().await?;
        let offsets = committed(&cluster).await;
        recreate(&mut cluster).await;
        // Kafka removes the offsets of a deleted topic; a late commit brings them back.
        commit(&cluster, offsets).await;
        produce(&mut cluster, FIRST + round * MORE).await;
        cluster.perform(&START).await;
        wait_read(&cluster).await?;
    }
    cluster.check().await?;
    cluster.stop().await
}

/// Readiness names a topic that was deleted while the worker runs, until it is there again.
pub(crate) async fn is_named_while_it_is_missing() -> Result<(), String> {
    let mut cluster = Cluster::open(&plan()).await;
    cluster.perform(&START).await;
    fill(&mut cluster, FIRST).await?;
    delete(&cluster).await;
    within(READ_WITHIN, async || match warning(&cluster) {
        Some(warning) if warning.contains(&cluster.topic.name) => Ok(()),
        other => Err(format!("the warning is {other:?}")),
    })
    .await?;
    create(&mut cluster).await;
    fill(&mut cluster, FIRST + MORE).await?;
    eventually(async || match warning(&cluster) {
        None => Ok(()),
        Some(warning) => Err(format!("the warning is {warning}")),
    })
    .await?;
    cluster.check().await?;
    cluster.stop().await
}

fn plan() -> Plan {
    Plan {
        partitions: 1,
        two_listeners: false,
        steps: Vec::new(),
    }
}

fn warning(cluster: &Cluster) -> Option<String> {
    cluster.progress()?.warning()
}

/// Produces the messages of a topic, and waits until each is applied and their end is committed.
async fn fill(cluster: &mut Cluster, messages: usize) -> Result<(), String> {
    produce(cluster, messages).await;
    wait_read(cluster).await
}

async fn produce(cluster: &mut Cluster, messages: usize) {
    let message = ToProduce::New(Some(1), 0, Behavior::Applies);
    let produce = Action::Produce {
        messages: vec![message; messages],
        gap_ms: 0,
    };
    cluster.perform(&produce).await;
    while cluster.topic.records().len() < messages {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn wait_read(cluster: &Cluster) -> Result<(), String> {
    let records = cluster.topic.records();
    let sent: BTreeSet<Uuid> = records.iter().map(|record| record.id).collect();
    let group = cluster.group(&cluster.scripts[0]);
    within(READ_WITHIN, async || {
        let applied = sqlx::query_scalar("select id from note");
        let applied: Vec<Uuid> = applied.fetch_all(&cluster.pool).await.unwrap();
        let applied: BTreeSet<Uuid> = applied.into_iter().collect();
        let lost = sent.difference(&applied).count();
        let committed = cluster.topic.committed_offsets(&group).await;
        if lost == 0 && committed == cluster.topic.end_offsets() {
            return Ok(());
        }
        let all = sent.len();
        Err(format!(
            "{lost} of {all} messages are not applied, and {committed:?} is committed"
        ))
    })
    .await
}

fn admin(cluster: &Cluster) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.kafka());
    config.create().unwrap()
}

async fn delete(cluster: &Cluster) {
    let deleted = admin(cluster)
        .delete_topics(&[&cluster.topic.name], &AdminOptions::new())
        .await
        .unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

/// Creates the topic, empty, with a producer that knows nothing of the old one.
async fn create(cluster: &mut Cluster) {
    let (name, partitions) = (cluster.topic.name.clone(), cluster.topic.partitions);
    let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    let admin = admin(cluster);
    loop {
        let created = admin.create_topics([&new], &AdminOptions::new()).await;
        match created.unwrap().remove(0) {
            Ok(_) => break,
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cluster.topic = Topic::create(cluster.kafka(), &name, partitions).await;
}

async fn recreate(cluster: &mut Cluster) {
    delete(cluster).await;
    create(cluster).await;
}

/// A consumer that reads and commits the group's offsets, without joining it.
fn bystander(cluster: &Cluster) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", cluster.kafka())
        .set("group.id", cluster.group(&cluster.scripts[0]))
        .create()
        .unwrap()
}

/// The committed offsets with their metadata.
async fn committed(cluster: &Cluster) -> TopicPartitionList {
    let (consumer, topic) = (bystander(cluster), cluster.topic.name.clone());
    let fetch = move || {
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, 0);
        consumer.committed_offsets(list, KAFKA_WITHIN).unwrap()
    };
    tokio::task::spawn_blocking(fetch).await.unwrap()
}

async fn commit(cluster: &Cluster, offsets: TopicPartitionList) {
    let consumer = bystander(cluster);
    let commit = move || consumer.commit(&offsets, CommitMode::Sync).unwrap();
    tokio::task::spawn_blocking(commit).await.unwrap();
}
