//! Kafka's side: what a topic is, and the two requests that change it.
//!
//! `rdkafka` has the older of Kafka's requests that alter a topic's settings: it replaces all of them. So the settings that the topic
//! itself has are described first, and sent along.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::compare::{Found, Setting, Topic};
use crate::specification::error::TopicsError;

/// How long Kafka may take for one answer.
const WAIT: Duration = Duration::from_secs(15);

/// A client of a cluster.
pub(super) struct Cluster {
    admin: Arc<AdminClient<DefaultClientContext>>,
    address: String,
}

impl Cluster {
    pub(super) fn new(kafka: &ClientConfig) -> Result<Self, TopicsError> {
        let mut kafka = kafka.clone();
        // librdkafka lets a client like this one create a topic by asking for it.
        kafka.set("allow.auto.create.topics", "false");
        let address = kafka.get("bootstrap.servers").unwrap_or_default();
        Ok(Self {
            address: address.to_owned(),
            admin: Arc::new(kafka.create()?),
        })
    }

    /// Where Kafka was reached.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The topic of this name, if it exists.
    pub(super) async fn topic(&self, name: &str) -> Result<Option<Found>, TopicsError> {
        let (admin, wanted) = (Arc::clone(&self.admin), name.to_owned());
        // The call blocks its thread.
        let asked =
            tokio::task::spawn_blocking(move || admin.inner().fetch_metadata(Some(&wanted), WAIT));
        let metadata = asked.await.map_err(|_| KafkaError::Canceled)??;
        let refused = |code| TopicsError::Refused {
            request: "show",
            topic: name.to_owned(),
            code,
        };
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
            return Ok(None);
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(None),
            Some(code) => return Err(refused(code)),
        }
        let partitions = topic.partitions();
        let replicas = partitions
            .iter()
            .map(|partition| partition.replicas().len());
        let mut found = Found {
            partitions: partitions.len(),
            replicas: replicas.min().unwrap_or_default(),
            config: BTreeMap::new(),
        };
        let resource = [ResourceSpecifier::Topic(name)];
        for described in self.admin.describe_configs(&resource, &options()).await? {
            for entry in described.map_err(refused)?.entries {
                let setting = Setting {
                    value: entry.value.unwrap_or_default(),
                    own: entry.source == ConfigSource::DynamicTopic,
                };
                found.config.insert(entry.name, setting);
            }
        }
        // The client passes a refusal of this request over in silence.
        if found.config.is_empty() {
            return Err(TopicsError::Hidden(name.to_owned()));
        }
        Ok(Some(found))
    }

    /// Creates a topic; one that another process has just created stays.
    pub(super) async fn create(&self, topic: &Topic) -> Result<(), TopicsError> {
        let replication = TopicReplication::Fixed(topic.replication_factor.into());
        let fresh = NewTopic::new(&topic.name, topic.partitions.into(), replication);
        let fresh = topic
            .config
            .iter()
            .fold(fresh, |fresh, (key, value)| fresh.set(key, value));
        for created in self.admin.create_topics([&fresh], &options()).await? {
            match created {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(TopicsError::Refused {
                        request: "create",
                        topic,
                        code,
                    });
                }
            }
        }
        Ok(())
    }

    /// Sets `wanted` on a topic, and nothing else.
    pub(super) async fn alter(
        &self,
        name: &str,
        found: &Found,
        wanted: &BTreeMap<&str, &str>,
    ) -> Result<(), TopicsError> {
        // The request that the client has resets whatever it does not name, so it names all that is set.
        let own = found.config.iter().filter(|(_, setting)| setting.own);
        let kept = own.map(|(key, setting)| (key.as_str(), setting.value.as_str()));
        let alter = AlterConfig {
            specifier: ResourceSpecifier::Topic(name),
            entries: kept
                .chain(wanted.iter().map(|(key, value)| (*key, *value)))
                .collect(),
        };
        for altered in self.admin.alter_configs([&alter], &options()).await? {
            altered.map_err(|(_, code)| TopicsError::Refused {
                request: "alter",
                topic: name.to_owned(),
                code,
            })?;
        }
        Ok(())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(WAIT))
        .operation_timeout(Some(WAIT))
}
