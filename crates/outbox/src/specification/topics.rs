//! The topics of a specification against Kafka: compared, created, and given what is declared.
//!
//! Kafka keeps a topic as it was created, whatever is declared later. One whose retention is shorter than declared, or which is
//! compacted, loses events that no listener has read; one with fewer partitions cannot be mended without moving keys. So what can be changed
//! safely is changed, and everything else is named with its remedy.

mod cluster;
mod compare;

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;

use self::cluster::Cluster;
use self::compare::{Topic, alterable, differences};
use super::drift::Drift;
use super::error::{Error, TopicsError};
use super::outbox::Specification;

/// How long a broker may take to show what another one has changed.
const SHOWN_WITHIN: Duration = Duration::from_secs(15);

/// What [`Specification::apply_topics`] has done, and what it left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// A line for each change.
    pub changes: Vec<String>,
    /// What it cannot change without a loss, each with what an operator does about it.
    pub left: Vec<Drift>,
}

impl Specification {
    /// Compares the topics in Kafka with the declared ones: their partitions, their replicas, and each declared setting. Settings that are
    /// not declared may be as they are. The client's principal needs `DESCRIBE` and `DESCRIBE_CONFIGS` on the topics.
    ///
    /// ```no_run
    /// # async fn run(specification: &outbox::specification::Specification) {
    /// let mut kafka = rdkafka::ClientConfig::new();
    /// kafka.set("bootstrap.servers", "127.0.0.1:29092");
    /// if let Err(error) = specification.check_topics(&kafka).await {
    ///     eprintln!("{error}");
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Drifted`] names every difference, and the remedy of each; [`Error::Topics`].
    pub async fn check_topics(&self, kafka: &ClientConfig) -> Result<(), Error> {
        let cluster = Cluster::new(kafka)?;
        let mut drifts = Vec::new();
        for topic in self.declared_topics() {
            let found = cluster.topic(&topic.name).await?;
            drifts.extend(differences(&topic, found.as_ref(), cluster.address()));
        }
        if drifts.is_empty() {
            Ok(())
        } else {
            Err(Error::Drifted(drifts))
        }
    }

    /// Creates the topics that are missing, and gives those that exist the declared settings. It changes neither partitions nor replicas,
    /// and no setting that is not declared. It may run again, and while events flow.
    ///
    /// The client's principal needs `CREATE`, `ALTER_CONFIGS` and what [`check_topics`](Self::check_topics) needs.
    ///
    /// # Errors
    /// [`TopicsError`]; topics before the one that failed stay changed.
    pub async fn apply_topics(&self, kafka: &ClientConfig) -> Result<Applied, TopicsError> {
        let cluster = Cluster::new(kafka)?;
        let mut changes = Vec::new();
        let mut left = Vec::new();
        for topic in self.declared_topics() {
            match cluster.topic(&topic.name).await? {
                None => {
                    cluster.create(&topic).await?;
                    changes.push(format!("created {topic}"));
                }
                Some(found) => {
                    let wanted = alterable(&topic, &found);
                    if !wanted.is_empty() {
                        cluster.alter(&topic.name, &found, &wanted).await?;
                    }
                    for (key, value) in wanted {
                        let was = found.value(key);
                        changes.push(format!("topic {}: {key} is {value}, was {was}", topic.name));
                    }
                }
            }
            left.extend(settled(&cluster, &topic).await?);
        }
        Ok(Applied { changes, left })
    }

    /// The topics, as [`to_json`](Self::to_json) declares them.
    fn declared_topics(&self) -> Vec<Topic> {
        serde_json::from_value(self.to_json()["topics"].take())
            .expect("`to_json` writes topics in this form")
    }
}

/// The differences that are left once the cluster shows what was changed.
async fn settled(cluster: &Cluster, topic: &Topic) -> Result<Vec<Drift>, TopicsError> {
    let deadline = Instant::now() + SHOWN_WITHIN;
    loop {
        let found = cluster.topic(&topic.name).await?;
        let shown = found
            .as_ref()
            .is_some_and(|found| alterable(topic, found).is_empty());
        if shown || Instant::now() > deadline {
            return Ok(differences(topic, found.as_ref(), cluster.address()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
