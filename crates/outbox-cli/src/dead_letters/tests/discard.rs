//! `discard`.

use std::process::ExitCode;

use serde_json::{Value, json};
use uuid::Uuid;

use super::fixture::{Fixture, ids};
use crate::dead_letters::Error;
use crate::dead_letters::exit::REMAINS;

#[tokio::test]
async fn dead_letters_that_are_discarded_together_are_never_retried() {
    let fixture = Fixture::new().await;
    let notes = [(1, "poison"), (2, "note"), (3, "note"), (4, "note")];
    fixture.dead_letters("a", &notes).await;
    let said = fixture
        .answer("discard --key a --reason r --yes --json", 0)
        .await;
    assert_eq!(
        said,
        json!({ "discarded": ids(&[4, 3, 2, 1]), "gone": ids(&[]) })
    );
    assert_eq!(fixture.ids("select id from was_due").await, []);
    assert_eq!(fixture.remaining().await, []);

    // One that is not discarded is retried once the earlier ones are gone.
    fixture.dead_letters("a", &notes).await;
    let first = format!("discard {} --reason r --yes --json", Uuid::from_u128(1));
    fixture.answer(&first, 0).await;
    assert_eq!(fixture.ids("select id from was_due").await, [2]);
    assert_eq!(fixture.remaining().await, [2, 3, 4]);
}

#[tokio::test]
async fn more_dead_letters_than_most_are_left_unchanged() {
    let fixture = Fixture::new().await;
    let notes = [(1, "poison"), (2, "note"), (3, "note"), (4, "note")];
    fixture.dead_letters("a", &notes).await;
    for line in [
        "discard --key a --most 3 --reason r --yes",
        "discard --key a --most 3 --reason r --yes --json",
        "discard --key a --most 3 --reason r",
        "discard --key a --most 3 --dry-run",
        "discard --key a --most 3 --dry-run --json",
    ] {
        let (done, written) = fixture.run_with(line, Some("yes\n")).await;
        let error = done.unwrap_err();
        assert!(matches!(error, Error::TooMany(most) if most.get() == 3));
        assert!(error.to_string().contains("raise --most"), "{error}");
        if line.ends_with("--dry-run --json") {
            let said: Value = serde_json::from_str(&written).unwrap();
            assert_eq!(said["dead_letters"].as_array().unwrap().len(), 3);
            assert_eq!(said["more"], true);
        } else if line.ends_with("--dry-run") {
            let said =
                "3 dead letters (there are more, see --most) match, more than discard takes\n";
            assert!(written.ends_with(said), "{written}");
        } else {
            assert_eq!(written, "");
        }
        assert_eq!(fixture.remaining().await, [1, 2, 3, 4], "{line}");
    }
    assert_eq!(fixture.ids("select id from was_due").await, []);
    let said = fixture
        .answer("discard --key a --most 4 --dry-run --json", 0)
        .await;
    assert_eq!(said["more"], false);
    fixture
        .answer("discard --key a --most 4 --reason r --yes --json", 0)
        .await;
    assert_eq!(fixture.remaining().await, []);
    assert_eq!(fixture.ids("select id from was_due").await, []);
}

#[tokio::test]
async fn a_discard_that_fails_names_what_it_discarded_and_keeps_earlier_dead_letters() {
    let fixture = Fixture::new().await;
    fixture
        .dead_letters("a", &[(1, "poison"), (2, "note"), (3, "note")])
        .await;
    let refuse = "alter table discarded_dead_letter add constraint refused check (id <> '00000000-0000-0000-0000-000000000002')";
    sqlx::raw_sql(refuse).execute(&fixture.pool).await.unwrap();
    let (done, written) = fixture.run("discard --all --reason r --yes --json").await;
    assert!(
        matches!(done, Err(Error::Discard { id, .. }) if id.as_u128() == 2),
        "{done:?}"
    );
    let said: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(said["discarded"], ids(&[3]));
    assert_eq!(fixture.remaining().await, [1, 2]);
    assert_eq!(fixture.ids("select id from was_due").await, []);
}

#[tokio::test]
async fn a_dead_letter_that_was_gone_before_is_listed_as_gone() {
    let fixture = Fixture::new().await;
    fixture
        .dead_letters("a", &[(1, "poison"), (2, "note")])
        .await;
    let another_is_faster = "create function takes() returns trigger language plpgsql as
             'begin delete from dead_letter where seq = 1; return null; end';
         create trigger takes after insert on discarded_dead_letter for each row execute function takes();";
    sqlx::raw_sql(another_is_faster)
        .execute(&fixture.pool)
        .await
        .unwrap();
    let said = fixture
        .answer("discard --all --reason r --yes --json", 3)
        .await;
    assert_eq!(said, json!({ "discarded": ids(&[2]), "gone": ids(&[1]) }));
}

#[tokio::test]
async fn only_yes_discards() {
    let fixture = Fixture::new().await;
    fixture
        .dead_letters("a", &[(1, "poison"), (2, "note")])
        .await;
    for answer in ["no\n", "\n", "y\n", "yes, but\n", ""] {
        let (done, written) = fixture
            .run_with("discard --all --reason r", Some(answer))
            .await;
        assert_eq!(done.unwrap(), ExitCode::from(REMAINS), "{answer:?}");
        assert!(written.contains("Discard 2 dead letters?"), "{written}");
        assert!(written.ends_with("discarded nothing\n"), "{written}");
        assert_eq!(fixture.remaining().await, [1, 2], "{answer:?}");
    }
    // There is no terminal, or a program reads the answer.
    for (line, answer) in [
        ("discard --all --reason r", None),
        ("discard --all --reason r --json", Some("yes\n")),
    ] {
        let (done, _) = fixture.run_with(line, answer).await;
        assert!(matches!(done, Err(Error::Unconfirmed(2))), "{done:?}");
        assert_eq!(fixture.remaining().await, [1, 2], "{line}");
    }
    let (done, written) = fixture
        .run_with("discard --all --reason r", Some("yes\n"))
        .await;
    assert_eq!(done.unwrap(), ExitCode::SUCCESS, "{written}");
    assert_eq!(fixture.remaining().await, []);
    assert_eq!(
        fixture
            .ids("select id from discarded_dead_letter")
            .await
            .len(),
        2
    );
}
