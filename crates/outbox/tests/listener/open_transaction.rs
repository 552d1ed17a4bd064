//! A producer that leaves its Kafka transaction open: it hides the messages behind it.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::cluster::Cluster;
use crate::plan::{Action, Behavior, Plan, ToProduce};
use crate::unknown_failure::{eventually, within};

const KAFKA_WITHIN: Duration = Duration::from_secs(30);
const WARNS_WITHIN: Duration = Duration::from_secs(60);

/// The lag counts the hidden messages, readiness names the transaction, and all is well once it is aborted.
pub(crate) async fn is_shown_until_it_ends() -> Result<(), String> {
    let plan = Plan {
        partitions: 1,
        two_listeners: false,
        steps: Vec::new(),
    };
    let mut cluster = Cluster::open(&plan).await;
    let start = Action::Start {
        listener: 0,
        max_batch: 20,
        delay_ms: 0,
    };
    cluster.perform(&start).await;
    produce(&mut cluster, 1).await;
    let settled = async |count: u64| {
        let (settled, lag) = cluster.progress().map_or((0, 0), |p| (p.settled, p.lag));
        (settled == count && lag == 0)
            .then_some(())
            .ok_or_else(|| format!("{settled} messages are settled, and {lag} wait"))
    };
    eventually(async || settled(1).await).await?;

    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.kafka())
        .set("transactional.id", &cluster.topic.name)
        .set("transaction.timeout.ms", "600000")
        .create()
        .unwrap();
    let name = cluster.topic.name.clone();
    let begins = tokio::task::spawn_blocking(move || {
        producer.init_transactions(KAFKA_WITHIN).unwrap();
        producer.begin_transaction().unwrap();
        let record = BaseRecord::<(), _>::to(&name).partition(0).payload("open");
        producer.send(record).unwrap();
        producer.flush(KAFKA_WITHIN).unwrap();
        producer
    });
    let producer = begins.await.unwrap();
    produce(&mut cluster, 3).await;
    within(WARNS_WITHIN, async || {
        let progress = cluster.progress().unwrap();
        if progress.settled != 1 {
            return Err(format!("{} messages are settled", progress.settled));
        }
        let warning = progress.warning().unwrap_or_default();
        let named = format!(
            "--topic {} --partition 0 --start-offset 1`",
            cluster.topic.name
        );
        if progress.lag == 4 && warning.contains("hides 4 messages") && warning.contains(&named) {
            return Ok(());
        }
        Err(format!(
            "{} messages wait, with the warning {warning:?}",
            progress.lag
        ))
    })
    .await?;

    let aborts = tokio::task::spawn_blocking(move || producer.abort_transaction(KAFKA_WITHIN));
    aborts.await.unwrap().unwrap();
    eventually(async || {
        let (settled, lag, warning) = cluster
            .progress()
            .map(|p| (p.settled, p.lag, p.warning()))
            .unwrap();
        if (settled, lag) == (4, 0) && warning.is_none() {
            return Ok(());
        }
        Err(format!(
            "{settled} messages are settled, and {lag} wait, with the warning {warning:?}"
        ))
    })
    .await?;
    cluster.settle().await
}

/// Produces messages to the only partition, and waits until Kafka has them.
async fn produce(cluster: &mut Cluster, count: usize) {
    let message = ToProduce::New(Some(1), 0, Behavior::Applies);
    let produce = Action::Produce {
        messages: vec![message; count],
        gap_ms: 0,
    };
    let known = cluster.topic.records().len();
    cluster.perform(&produce).await;
    while cluster.topic.records().len() < known + count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
