//! The ids of topics, as Kafka gives them out: a topic that is deleted and recreated has another one.
//!
//! librdkafka knows them, and does not reset offsets when one changes: it goes on at the old position in the new topic. rdkafka has
//! no function for them, so this file calls librdkafka's own.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{IsError, KafkaError, KafkaResult, RDKafkaErrorCode};

/// The id of a topic, as Kafka's tools print it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicId(String);

/// The prefix of the metadata that is committed with an offset.
const METADATA: &str = "topic-id=";

impl TopicId {
    /// The id as the metadata of a committed offset: an offset means nothing in another topic.
    pub(super) fn to_metadata(&self) -> String {
        format!("{METADATA}{}", self.0)
    }

    /// The id that was committed with an offset. Offsets that something else has committed have none.
    pub(super) fn from_metadata(metadata: &str) -> Option<Self> {
        let id = metadata.strip_prefix(METADATA)?;
        Some(Self(id.to_owned()))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What Kafka says of a topic: its id, which old brokers do not have, or why there is none.
pub(super) type Described = Result<Option<TopicId>, RDKafkaErrorCode>;

/// Asks Kafka for the ids of topics. It blocks for `timeout` at most.
#[expect(
    unsafe_code,
    reason = "rdkafka does not wrap DescribeTopics, the only call of librdkafka that shows a topic's id"
)]
pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    timeout: Duration,
) -> KafkaResult<BTreeMap<String, Described>> {
    let names: Vec<CString> = topics
        .iter()
        .map(|name| CString::new(name.as_str()))
        .collect::<Result<_, _>>()?;
    let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut described = BTreeMap::new();
    // SAFETY: the client outlives the call, and so do the names, which librdkafka copies. Each object is destroyed once, the event
    // after the last use of what it owns: the result, its topics, their names, ids and errors. There is no event if the answer did
    // not come in time. The queue may be destroyed while the answer is under way; librdkafka then drops it.
    let failed = unsafe {
        let client = client.native_ptr();
        let queue = rd::rd_kafka_queue_new(client);
        let options = rd::rd_kafka_AdminOptions_new(
            client,
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        rd::rd_kafka_AdminOptions_set_request_timeout(options, timeout, std::ptr::null_mut(), 0);
        let collection =
            rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        rd::rd_kafka_DescribeTopics(client, collection, options, queue);
        rd::rd_kafka_TopicCollection_destroy(collection);
        rd::rd_kafka_AdminOptions_destroy(options);
        let event = rd::rd_kafka_queue_poll(queue, timeout);
        let result = rd::rd_kafka_event_DescribeTopics_result(event);
        let failed = if result.is_null() {
            Some(RDKafkaErrorCode::OperationTimedOut)
        } else {
            let error = rd::rd_kafka_event_error(event);
            error.is_error().then(|| error.into())
        };
        if failed.is_none() {
            let mut count = 0;
            let found = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            for index in 0..count {
                let topic = *found.add(index);
                let name = CStr::from_ptr(rd::rd_kafka_TopicDescription_name(topic));
                let error = rd::rd_kafka_error_code(rd::rd_kafka_TopicDescription_error(topic));
                let outcome = if error.is_error() {
                    Err(error.into())
                } else {
                    Ok(id(rd::rd_kafka_TopicDescription_topic_id(topic)))
                };
                described.insert(name.to_string_lossy().into_owned(), outcome);
            }
        }
        rd::rd_kafka_event_destroy(event);
        rd::rd_kafka_queue_destroy(queue);
        failed
    };
    match failed {
        Some(code) => Err(KafkaError::MetadataFetch(code)),
        None => Ok(described),
    }
}

/// An id; zero stands for none.
///
/// # Safety
/// `uuid` is null or points to an id.
#[expect(unsafe_code, reason = "librdkafka's ids are opaque")]
unsafe fn id(uuid: *const rd::rd_kafka_Uuid_t) -> Option<TopicId> {
    if uuid.is_null() {
        return None;
    }
    // SAFETY: it points to an id, which owns its text.
    unsafe {
        let halves = [
            rd::rd_kafka_Uuid_most_significant_bits(uuid),
            rd::rd_kafka_Uuid_least_significant_bits(uuid),
        ];
        let text = CStr::from_ptr(rd::rd_kafka_Uuid_base64str(uuid));
        (halves != [0, 0]).then(|| TopicId(text.to_string_lossy().into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_the_metadata_of_an_offset() {
        let id = TopicId("HpcZ5j9RTHmYgqgWbpq7Fg".to_owned());
        assert_eq!(TopicId::from_metadata(&id.to_metadata()), Some(id));
        for foreign in ["", "NIL", "HpcZ5j9RTHmYgqgWbpq7Fg"] {
            assert_eq!(TopicId::from_metadata(foreign), None);
        }
    }
}
