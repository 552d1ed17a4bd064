//! Dead letters as operators and programs read them.

use std::fmt::Write as _;

use outbox::listener::dead_letter::DeadLetter;
use serde_json::{Value, json};

/// A dead letter's id, type and key in one line, without control characters.
pub(super) fn name(dead_letter: &DeadLetter) -> String {
    let event_type = dead_letter
        .event_type()
        .map_or_else(|| "unreadable".to_owned(), |name| plain(&name));
    let key = dead_letter
        .message
        .key
        .as_deref()
        .map_or_else(|| "no key".to_owned(), |key| format!("key {}", text(key)));
    format!("{}  {event_type}  {key}", dead_letter.id)
}

/// A dead letter in one line, without control characters: its bytes may come from any producer.
pub(super) fn line(dead_letter: &DeadLetter) -> String {
    let DeadLetter {
        kind,
        error,
        attempts,
        dead_lettered_at,
        retry_at,
        ..
    } = dead_letter;
    let again = retry_at
        .as_ref()
        .map_or_else(String::new, |at| format!(", again at {at}"));
    format!(
        "{kind:8}  {}  {dead_lettered_at}, after {attempts} attempts{again}: {}",
        name(dead_letter),
        plain(error)
    )
}

/// A dead letter with its message and its error.
pub(super) fn whole(dead_letter: &DeadLetter) -> String {
    let DeadLetter {
        kind,
        attempts,
        dead_lettered_at,
        message,
        ..
    } = dead_letter;
    let at = &message.at;
    let mut shown = format!(
        "{}\n  {kind} since {dead_lettered_at}, after {attempts} attempts",
        name(dead_letter)
    );
    if let Some(at) = &dead_letter.retry_at {
        let _ = write!(shown, ", again at {at}");
    }
    if !dead_letter.first {
        shown.push_str("\n  an earlier dead letter of its key comes first");
    }
    let _ = write!(shown, "\n  error: {}", plain(&dead_letter.error));
    let _ = write!(
        shown,
        "\n  from:  topic {}, partition {}, offset {}",
        at.topic, at.partition, at.offset
    );
    for (name, value) in &message.headers {
        let value = value.as_deref().map_or_else(|| "null".to_owned(), text);
        let _ = write!(shown, "\n  header {}: {value}", plain(name));
    }
    let value = message
        .value
        .as_deref()
        .map_or_else(|| "null".to_owned(), text);
    let _ = write!(shown, "\n  value: {value}");
    shown
}

/// A dead letter without headers, time and value.
pub(super) fn json(dead_letter: &DeadLetter) -> Value {
    let DeadLetter {
        id,
        seq,
        kind,
        error,
        attempts,
        dead_lettered_at,
        age_s,
        retry_at,
        first,
        message,
    } = dead_letter;
    json!({
        "id": id, "seq": seq, "kind": kind, "error": error, "attempts": attempts, "dead_lettered_at": dead_lettered_at,
        "age_s": age_s, "retry_at": retry_at, "first": first, "event_type": dead_letter.event_type(),
        "topic": message.at.topic, "partition": message.at.partition, "offset": message.at.offset,
        "key": message.key.as_deref().map(bytes),
    })
}

/// A dead letter with its message.
pub(super) fn json_whole(dead_letter: &DeadLetter) -> Value {
    let mut shown = json(dead_letter);
    let headers = dead_letter.message.headers.iter();
    let headers: Vec<Value> = headers
        .map(|(name, value)| json!([name, value.as_deref().map(bytes)]))
        .collect();
    shown["headers"] = headers.into();
    shown["timestamp"] = json!(dead_letter.message.timestamp);
    shown["value"] = json!(dead_letter.message.value.as_deref().map(bytes));
    shown
}

/// Bytes as text, or as `{"hex": …}` if they are not UTF-8.
fn bytes(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!({ "hex": hex(bytes) }), Value::from)
}

fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| format!("0x{}", hex(bytes)), plain)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Escapes control characters, which would move a terminal's cursor or colour it.
pub(super) fn plain(text: &str) -> String {
    text.chars().fold(String::new(), |mut plain, character| {
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
        plain
    })
}
