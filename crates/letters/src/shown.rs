//! Letters as people and programs see them.

use std::fmt::Write as _;

use outbox::listener::letters::Letter;
use serde_json::{Value, json};

/// How a letter is called in one line, without control characters.
pub(crate) fn name(letter: &Letter) -> String {
    let event_type = letter
        .event_type()
        .map_or_else(|| "unreadable".to_owned(), |name| plain(&name));
    let key = letter
        .message
        .key
        .as_deref()
        .map_or_else(|| "no key".to_owned(), |key| format!("key {}", text(key)));
    format!("{}  {event_type}  {key}", letter.id)
}

/// One line, without control characters: a letter is anybody's bytes.
pub(crate) fn line(letter: &Letter) -> String {
    let Letter {
        kind,
        error,
        attempts,
        lettered_at,
        retry_at,
        ..
    } = letter;
    let again = retry_at
        .as_ref()
        .map_or_else(String::new, |at| format!(", again at {at}"));
    format!(
        "{kind:8}  {}  {lettered_at}, tried {attempts} times{again}: {}",
        name(letter),
        plain(error)
    )
}

/// All that there is to know.
pub(crate) fn whole(letter: &Letter) -> String {
    let Letter {
        kind,
        attempts,
        lettered_at,
        message,
        ..
    } = letter;
    let at = &message.at;
    let mut shown = format!(
        "{}\n  {kind} since {lettered_at}, tried {attempts} times",
        name(letter)
    );
    if let Some(at) = &letter.retry_at {
        let _ = write!(shown, ", again at {at}");
    }
    if !letter.first {
        shown.push_str("\n  an earlier letter of its key is to be tried first");
    }
    let _ = write!(shown, "\n  error: {}", plain(&letter.error));
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

pub(crate) fn json(letter: &Letter) -> Value {
    let Letter {
        id,
        seq,
        kind,
        error,
        attempts,
        lettered_at,
        age_s,
        retry_at,
        first,
        message,
    } = letter;
    json!({
        "id": id, "seq": seq, "kind": kind, "error": error, "attempts": attempts, "lettered_at": lettered_at,
        "age_s": age_s, "retry_at": retry_at, "first": first, "event_type": letter.event_type(),
        "topic": message.at.topic, "partition": message.at.partition, "offset": message.at.offset,
        "key": message.key.as_deref().map(bytes),
    })
}

pub(crate) fn json_whole(letter: &Letter) -> Value {
    let mut shown = json(letter);
    let headers = letter.message.headers.iter();
    let headers: Vec<Value> = headers
        .map(|(name, value)| json!([name, value.as_deref().map(bytes)]))
        .collect();
    shown["headers"] = headers.into();
    shown["timestamp"] = json!(letter.message.timestamp);
    shown["value"] = json!(letter.message.value.as_deref().map(bytes));
    shown
}

/// Bytes as text, or what is none as `{"hex": …}`.
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

/// What would move a terminal's cursor, or colour it, is escaped.
pub(crate) fn plain(text: &str) -> String {
    text.chars().fold(String::new(), |mut plain, character| {
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
        plain
    })
}
