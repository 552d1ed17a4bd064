//! What holds of every command.

use std::process::ExitCode;

use serde_json::json;
use uuid::Uuid;

use super::fixture::{ESCAPES, Fixture, parse};
use crate::dead_letters::exit::REMAINS;

#[tokio::test]
async fn no_dead_letter_is_an_empty_list_and_exit_code_3_otherwise() {
    let fixture = Fixture::new().await;
    let unknown = Uuid::from_u128(9);
    let none = json!({ "dead_letters": [], "more": false });
    assert_eq!(fixture.answer("list --json", 0).await, none);
    fixture.answer(&format!("show {unknown} --json"), 3).await;
    for line in ["redrive --all", "discard --all --reason r --yes"] {
        fixture.answer(&format!("{line} --json"), 3).await;
        fixture.answer(&format!("{line} --json --dry-run"), 3).await;
        assert_eq!(fixture.run(line).await.1, "no dead letters\n");
    }
    for line in [
        "redrive",
        "redrive --json",
        "discard --reason r --yes",
        "list --most",
        "list --all --key a",
        "discard --all --yes --reason=",
        "list --most 0",
        "redrive --all --most 0",
        "discard --all --reason r --most 0",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    parse("redrive --kind parked --type a").unwrap();
}

#[tokio::test]
async fn control_characters_of_a_dead_letter_are_escaped() {
    let fixture = Fixture::new().await;
    fixture
        .dead_letter(1, "a", "poison", "poison", ESCAPES)
        .await;
    fixture
        .dead_letter(2, "b", "poison", "poison", "note.taken")
        .await;
    let plain = |text: &str, lines: usize| {
        let controls = text.chars().filter(|character| character.is_control());
        assert!(controls.clone().all(|control| control == '\n'), "{text:?}");
        assert_eq!(controls.count(), lines, "{text:?}");
        assert!(text.contains(r"\u{1b}[2J\nfake"), "{text}");
    };
    let (_, listed) = fixture.run("list").await;
    plain(&listed, 3);
    let (_, shown) = fixture.run(&format!("show {}", Uuid::from_u128(1))).await;
    plain(&shown, 6);
    // The error of the try is also the dead letter's from then on.
    let (done, failed) = fixture.run("redrive --key b").await;
    assert_eq!(done.unwrap(), ExitCode::from(REMAINS));
    plain(&failed, 3);
    let (_, listed) = fixture.run("list --key b").await;
    plain(&listed, 2);
    let (_, discarded) = fixture.run("discard --key a --reason r --yes").await;
    plain(&discarded, 2);
}

/// The peak of this process's memory since it was [reset](reset_peak_memory), in megabytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim().trim_end_matches(" kB");
    peak.parse::<u64>().unwrap() / 1000
}

fn reset_peak_memory() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

#[tokio::test]
async fn a_command_over_many_large_dead_letters_keeps_few_in_memory() {
    let fixture = Fixture::new().await;
    for id in 1..=150 {
        let key = id.to_string();
        fixture
            .dead_letter(id, &key, "poison", "note", "note.taken")
            .await;
    }
    let enlarge = "update dead_letter set value = convert_to(
        format('{\"does\": \"note\", \"pad\": \"%s\"}', repeat('x', 900000)), 'UTF8')";
    sqlx::raw_sql(enlarge).execute(&fixture.pool).await.unwrap();
    for line in [
        "list --most 1000 --json",
        "list --most 1000",
        "redrive --all --dry-run",
        "discard --all --dry-run --json",
        "redrive --type note.taken --most 70",
        "discard --all --reason r --yes",
    ] {
        reset_peak_memory();
        let before = peak_memory();
        let (done, written) = fixture.run(line).await;
        // The kernel's count is rough: it may even fall.
        let rises = peak_memory().saturating_sub(before);
        done.unwrap();
        assert!(rises < 40, "{line} takes {rises} MB");
        assert!(written.len() > 1000, "{written}");
    }
    assert_eq!(fixture.remaining().await, []);
    assert_eq!(fixture.ids("select id from note").await.len(), 70);
}
