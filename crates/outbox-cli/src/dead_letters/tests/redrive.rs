//! `redrive`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::fixture::{Fixture, ids};
use crate::dead_letters::Error;
use crate::dead_letters::exit::REMAINS;

#[tokio::test]
async fn a_dead_letter_that_remains_is_exit_code_3() {
    let fixture = Fixture::new().await;
    let notes = [
        (1, "note"),
        (2, "note"),
        (3, "note"),
        (4, "note"),
        (5, "note"),
    ];
    fixture.dead_letters("a", &notes).await;
    let fifth = format!("redrive {} --json", Uuid::from_u128(5));
    let said = fixture.answer(&format!("{fifth} --most 1"), 3).await;
    assert_eq!(said["applied"], ids(&[1]));
    assert_eq!(said["more"], true);
    let said = fixture.answer(&fifth, 0).await;
    assert_eq!(said["applied"], ids(&[2, 3, 4, 5]));
    assert_eq!(said["more"], false);
    assert_eq!(
        fixture.ids("select id from note order by seq").await,
        [1, 2, 3, 4, 5]
    );

    // One whose key is not blocked any more is not attempted for ever.
    fixture.dead_letters("b", &[(6, "poison")]).await;
    let free = sqlx::query("delete from blocked_key").execute(&fixture.pool);
    assert_eq!(free.await.unwrap().rows_affected(), 1);
    let attempted = fixture.answer("redrive --all --most 1000000000 --json", 3);
    let said = tokio::time::timeout(Duration::from_secs(60), attempted).await;
    assert_eq!(said.unwrap()["applied"], ids(&[]));
}

#[tokio::test]
async fn dead_letters_that_most_leaves_out_are_exit_code_3() {
    let fixture = Fixture::new().await;
    for (id, does) in [(1, "note"), (2, "note"), (3, "note"), (4, "poison")] {
        let key = id.to_string();
        fixture
            .dead_letter(id, &key, "poison", does, "note.taken")
            .await;
    }
    let keyless = "update dead_letter set key = null; delete from blocked_key";
    sqlx::raw_sql(keyless).execute(&fixture.pool).await.unwrap();
    let said = fixture.answer("redrive --all --most 1 --json", 3).await;
    assert_eq!(said["applied"], ids(&[1]));
    assert_eq!(said["more"], true);
    let (done, written) = fixture.run("redrive --all --most 1").await;
    assert_eq!(done.unwrap(), ExitCode::from(REMAINS));
    let said =
        "1 attempted, and more are left than --most 1 permits: repeat the command, or raise --most";
    assert!(written.contains(said), "{written}");
    // One that was attempted and remains is not unconfirmed.
    let said = fixture.answer("redrive --all --most 2 --json", 3).await;
    assert_eq!(said["applied"], ids(&[3]));
    assert_eq!(said["failed"][0]["id"], json!(Uuid::from_u128(4)));
    assert_eq!(said["more"], false);

    // `more` counts neither unselected dead letters nor those parked behind one that remains.
    fixture.dead_letters("a", &[(5, "note"), (6, "note")]).await;
    let first = format!("redrive {} --most 1 --json", Uuid::from_u128(5));
    assert_eq!(fixture.answer(&first, 0).await["more"], false);
    fixture
        .dead_letters("b", &[(7, "poison"), (8, "note")])
        .await;
    let said = fixture.answer("redrive --key b --most 2 --json", 3).await;
    assert_eq!(said["more"], false);
}

#[tokio::test]
async fn a_blocked_key_hides_no_other_from_a_bounded_redrive() {
    let fixture = Fixture::new().await;
    let parked = [(1, "poison"), (2, "note"), (3, "note"), (4, "note")];
    fixture.dead_letters("a", &parked).await;
    fixture.dead_letters("b", &[(5, "note"), (6, "note")]).await;
    let attempted = fixture
        .answer("redrive --all --most 2 --json", REMAINS)
        .await;
    assert_eq!(
        (&attempted["applied"], &attempted["more"]),
        (&ids(&[5]), &json!(true))
    );
    let attempted = fixture
        .answer("redrive --all --most 2 --json", REMAINS)
        .await;
    let (applied, failed) = (&attempted["applied"], &attempted["failed"][0]["id"]);
    assert_eq!((applied, failed), (&ids(&[6]), &ids(&[1])[0]));
    assert_eq!(attempted["more"], false, "none is unconfirmed");
    let would = fixture.answer("redrive --all --most 1 --dry-run --json", REMAINS);
    assert_eq!(would.await["more"], true);
    assert_eq!(fixture.remaining().await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_dry_run_lists_what_a_redrive_would_try() {
    let fixture = Fixture::new().await;
    fixture
        .dead_letters("a", &[(1, "note"), (2, "note"), (3, "note")])
        .await;
    fixture.dead_letters("b", &[(4, "note"), (5, "note")]).await;
    fixture
        .dead_letter(6, "c", "poison", "note", "note.taken")
        .await;
    fixture
        .dead_letter(7, "c", "poison", "note", "note.taken")
        .await;
    let keyless = "update dead_letter set key = null where key = convert_to('c', 'UTF8')";
    sqlx::raw_sql(keyless).execute(&fixture.pool).await.unwrap();
    let second = Uuid::from_u128(2);
    for (line, attempted, more) in [
        (format!("redrive {second}"), vec![1, 2, 3], false),
        (format!("redrive {second} --most 2"), vec![1, 2], false),
        (format!("redrive {second} --most 1"), vec![1], true),
        (
            "redrive --kind poison".to_owned(),
            vec![1, 2, 3, 4, 5, 6, 7],
            false,
        ),
        (
            "redrive --kind poison --most 4".to_owned(),
            vec![1, 2, 3, 4],
            true,
        ),
        ("redrive --all --most 3".to_owned(), vec![1, 2, 3], true),
        (format!("redrive {}", Uuid::from_u128(7)), vec![7], false),
    ] {
        let code = if more { REMAINS } else { 0 };
        let said = fixture
            .answer(&format!("{line} --dry-run --json"), code)
            .await;
        let listed = said["dead_letters"].as_array().unwrap();
        let listed: Value = listed
            .iter()
            .map(|dead_letter| dead_letter["id"].clone())
            .collect();
        assert_eq!(
            (listed, &said["more"]),
            (ids(&attempted), &json!(more)),
            "{line}"
        );
    }
    let (done, written) = fixture.run(&format!("redrive {second} --dry-run")).await;
    assert_eq!(done.unwrap(), ExitCode::SUCCESS);
    let what = "3 dead letters to attempt, each key until one of its dead letters fails\n";
    assert!(written.ends_with(what), "{written}");
    assert_eq!(fixture.remaining().await, [1, 2, 3, 4, 5, 6, 7]);
    // The redrive attempted the same ones, while none fails.
    let said = fixture.answer("redrive --kind poison --most 4 --json", REMAINS);
    assert_eq!(said.await["applied"], ids(&[1, 2, 3, 4]));
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_tried_delays_no_other_key() {
    let fixture = Fixture::new().await;
    fixture.dead_letters("a", &[(1, "lack"), (2, "note")]).await;
    fixture.dead_letters("b", &[(3, "note"), (4, "note")]).await;
    let (done, written) = fixture.run("redrive --all --json").await;
    assert!(matches!(done, Err(Error::Redrive(1))), "{done:?}");
    let said: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(said["applied"], ids(&[3, 4]));
    assert_eq!(said["unconfirmed"][0]["id"], json!(Uuid::from_u128(1)));
    let error = said["unconfirmed"][0]["error"].as_str().unwrap();
    assert!(error.contains("lacking"), "{error}");
    assert_eq!(fixture.remaining().await, [1, 2]);
}

#[tokio::test]
async fn the_answer_names_what_was_applied_before_the_database_was_lost() {
    let fixture = Fixture::new().await;
    fixture
        .dead_letters("a", &[(1, "note"), (2, "close"), (3, "note")])
        .await;
    let (done, written) = fixture.run("redrive --all --json").await;
    assert!(matches!(done, Err(Error::Database(_))), "{done:?}");
    let error = done.unwrap_err().to_string();
    for what in ["database is up", "roles.sql", "`migrate`"] {
        assert!(error.contains(what), "{error}");
    }
    let said: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(said["applied"], ids(&[1, 2]));
}
