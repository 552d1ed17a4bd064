//! The commands on real PostgreSQL. Dead letters are written as a listener does; what they do when they are tried, they say.

use std::time::Duration;

use clap::Parser;
use outbox::Outgoing;
use outbox::listener::{Failure, Handler, Received, Refusal, RetryPolicy};
use outbox::schema::{self, Part, Roles};
use serde::Deserialize;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::{PgPoolOptions, PgTransaction};
use stack::testing::{Context, database};

use super::*;

mod lost;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Does {
    /// Is written down.
    Note,
    Poison,
    /// Wants a table that is not there.
    Lack,
    /// Is written down, and nothing can be read any more.
    Close,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "payload")]
enum Event {
    #[serde(rename = "note.taken")]
    Taken { does: Does },
}

struct Clerk(PgPool);

const ESCAPES: &str = "\x1b[2J\nfake";

impl Handler for Clerk {
    type Event = Event;

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<Event>],
    ) -> Result<Vec<Outgoing>, Failure> {
        for Received { id, event, .. } in batch {
            let Event::Taken { does } = event;
            let statement = match does {
                Does::Note => "insert into note (id) values ($1)",
                Does::Lack => "insert into lacking (id) values ($1)",
                Does::Poison => {
                    return Err(Failure::Refused(vec![Refusal::poison(*id, ESCAPES)]));
                }
                Does::Close => {
                    drop(self.0.close());
                    "insert into note (id) values ($1)"
                }
            };
            sqlx::query(statement).bind(id).execute(&mut **tx).await?;
        }
        Ok(Vec::new())
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("dead_letters").chain(line.split_whitespace());
    Line::try_parse_from(words).map(|line| line.command)
}

struct Desk {
    pool: PgPool,
    dead_letters: DeadLetters<Clerk>,
}

impl Desk {
    async fn new() -> Self {
        let database = database(Context::Order).await;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .connect_with(database.options("order_owner"))
            .await
            .unwrap();
        let mut owner = pool.acquire().await.unwrap();
        schema::migrate(
            &mut owner,
            &[Part::Publisher, Part::Listener],
            &Roles::default(),
        )
        .await
        .unwrap();
        drop(owner);
        for ddl in [
            "create table note (seq bigint generated always as identity, id uuid unique);
             -- Which letters the running listener would have tried.
             create table was_due (id uuid);
             create function is_due() returns trigger language plpgsql as
                 'begin insert into was_due values (new.id); return null; end';
             create trigger is_due after update of retry_at on dead_letter
                 for each row when (new.retry_at is not null) execute function is_due();",
        ] {
            sqlx::raw_sql(ddl).execute(&pool).await.unwrap();
        }
        let dead_letters = DeadLetters::new(
            "clerk",
            pool.clone(),
            Clerk(pool.clone()),
            RetryPolicy::default(),
        );
        Self { pool, dead_letters }
    }

    /// A dead letter of a key, called `event_type`.
    async fn dead_letter(&self, id: u128, key: &str, kind: &str, does: &str, event_type: &str) {
        sqlx::query(
            r#"insert into dead_letter (listener, id, kind, error, topic, partition, "offset", key, header_names, header_values, value)
               values ('clerk', $1, $2, 'wrong', 'note', 0, 0, $3, '{event_type}', array[convert_to($4, 'UTF8')],
                       convert_to(format('{"does": "%s"}', $5::text), 'UTF8'))"#,
        )
        .bind(Uuid::from_u128(id))
        .bind(kind)
        .bind(key.as_bytes())
        .bind(event_type)
        .bind(does)
        .execute(&self.pool)
        .await
        .unwrap();
        sqlx::query(
            "insert into blocked_key (listener, topic, key_digest) values ('clerk', 'note', sha256($1)) on conflict do nothing",
        )
        .bind(key.as_bytes())
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Dead letters of a key, in order, the first of them poison.
    async fn dead_letters(&self, key: &str, of: &[(u128, &str)]) {
        for (at, (id, does)) in of.iter().enumerate() {
            let kind = if at == 0 { "poison" } else { "parked" };
            self.dead_letter(*id, key, kind, does, "note.taken").await;
        }
    }

    async fn run(&self, line: &str) -> (Result<ExitCode, Error>, String) {
        self.asks(line, None).await
    }

    /// As [`run`](Self::run), with somebody there who answers.
    async fn asks(&self, line: &str, answer: Option<&str>) -> (Result<ExitCode, Error>, String) {
        let mut written = Vec::new();
        let command = parse(line).unwrap();
        let answer = answer.map(|text| || Ok(text.to_owned()));
        let done = command
            .write(&self.dead_letters, &mut written, answer)
            .await;
        (done, String::from_utf8(written).unwrap())
    }

    /// What a command that succeeds or leaves something says, as JSON.
    async fn says(&self, line: &str, code: u8) -> Value {
        let (done, written) = self.run(line).await;
        assert_eq!(done.unwrap(), ExitCode::from(code), "{line}: {written}");
        serde_json::from_str(&written).unwrap()
    }

    async fn ids(&self, sql: &'static str) -> Vec<u128> {
        let ids: Vec<Uuid> = sqlx::query_scalar(sql).fetch_all(&self.pool).await.unwrap();
        ids.iter().map(Uuid::as_u128).collect()
    }

    async fn move_to_dead_letter(&self) -> Vec<u128> {
        self.ids("select id from dead_letter order by seq").await
    }
}

fn ids(of: &[u128]) -> Value {
    of.iter().map(|id| json!(Uuid::from_u128(*id))).collect()
}

#[tokio::test]
async fn dead_letters_that_are_discarded_together_are_never_due() {
    let desk = Desk::new().await;
    let notes = [(1, "poison"), (2, "note"), (3, "note"), (4, "note")];
    desk.dead_letters("a", &notes).await;
    let said = desk
        .says("discard --key a --reason r --yes --json", 0)
        .await;
    assert_eq!(
        said,
        json!({ "discarded": ids(&[4, 3, 2, 1]), "gone": ids(&[]) })
    );
    assert_eq!(desk.ids("select id from was_due").await, []);
    assert_eq!(desk.move_to_dead_letter().await, []);

    // One that is not given up is due once those before it are.
    desk.dead_letters("a", &notes).await;
    let first = format!("discard {} --reason r --yes --json", Uuid::from_u128(1));
    desk.says(&first, 0).await;
    assert_eq!(desk.ids("select id from was_due").await, [2]);
    assert_eq!(desk.move_to_dead_letter().await, [2, 3, 4]);
}

#[tokio::test]
async fn more_dead_letters_than_may_be_discarded_at_once_are_as_they_were() {
    let desk = Desk::new().await;
    let notes = [(1, "poison"), (2, "note"), (3, "note"), (4, "note")];
    desk.dead_letters("a", &notes).await;
    for line in [
        "discard --key a --most 3 --reason r --yes",
        "discard --key a --most 3 --reason r --yes --json",
        "discard --key a --most 3 --reason r",
        "discard --key a --most 3 --dry-run",
        "discard --key a --most 3 --dry-run --json",
    ] {
        let (done, written) = desk.asks(line, Some("yes\n")).await;
        let error = done.unwrap_err();
        assert!(matches!(error, Error::TooMany(most) if most.get() == 3));
        assert!(error.to_string().contains("raise --most"), "{error}");
        if line.ends_with("--dry-run --json") {
            let said: Value = serde_json::from_str(&written).unwrap();
            assert_eq!(said["dead_letters"].as_array().unwrap().len(), 3);
            assert_eq!(said["more"], true);
        } else if line.ends_with("--dry-run") {
            let said =
                "3 dead letters (there are more, see --most) match, and none would be discarded\n";
            assert!(written.ends_with(said), "{written}");
        } else {
            assert_eq!(written, "");
        }
        assert_eq!(desk.move_to_dead_letter().await, [1, 2, 3, 4], "{line}");
    }
    assert_eq!(desk.ids("select id from was_due").await, []);
    let said = desk
        .says("discard --key a --most 4 --dry-run --json", 0)
        .await;
    assert_eq!(said["more"], false);
    desk.says("discard --key a --most 4 --reason r --yes --json", 0)
        .await;
    assert_eq!(desk.move_to_dead_letter().await, []);
    assert_eq!(desk.ids("select id from was_due").await, []);
}

#[tokio::test]
async fn a_list_says_whether_there_are_more() {
    let desk = Desk::new().await;
    desk.dead_letters("a", &[(1, "poison"), (2, "note")]).await;
    let (_, written) = desk.run("list --most 1").await;
    let said = "\n1 dead letter (there are more, see --most)\n";
    assert!(written.ends_with(said), "{written}");
    let (_, written) = desk.run("list --most 2").await;
    assert!(written.ends_with("\n2 dead letters\n"), "{written}");
}

#[tokio::test]
async fn a_drop_that_fails_tells_what_it_did_and_keeps_what_comes_before() {
    let desk = Desk::new().await;
    desk.dead_letters("a", &[(1, "poison"), (2, "note"), (3, "note")])
        .await;
    let refuse = "alter table discarded_dead_letter add constraint refused check (id <> '00000000-0000-0000-0000-000000000002')";
    sqlx::raw_sql(refuse).execute(&desk.pool).await.unwrap();
    let (done, written) = desk.run("discard --all --reason r --yes --json").await;
    assert!(
        matches!(done, Err(Error::Discard { id, .. }) if id.as_u128() == 2),
        "{done:?}"
    );
    let said: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(said["discarded"], ids(&[3]));
    assert_eq!(desk.move_to_dead_letter().await, [1, 2]);
    assert_eq!(desk.ids("select id from was_due").await, []);
}

#[tokio::test]
async fn a_dead_letter_that_was_gone_before_it_was_dropped_is_told() {
    let desk = Desk::new().await;
    desk.dead_letters("a", &[(1, "poison"), (2, "note")]).await;
    let somebody_is_faster = "create function takes() returns trigger language plpgsql as
             'begin delete from dead_letter where seq = 1; return null; end';
         create trigger takes after insert on discarded_dead_letter for each row execute function takes();";
    sqlx::raw_sql(somebody_is_faster)
        .execute(&desk.pool)
        .await
        .unwrap();
    let said = desk.says("discard --all --reason r --yes --json", 3).await;
    assert_eq!(said, json!({ "discarded": ids(&[2]), "gone": ids(&[1]) }));
}

#[tokio::test]
async fn a_dead_letter_that_stays_is_told_by_the_exit_code() {
    let desk = Desk::new().await;
    let notes = [
        (1, "note"),
        (2, "note"),
        (3, "note"),
        (4, "note"),
        (5, "note"),
    ];
    desk.dead_letters("a", &notes).await;
    let fifth = format!("redrive {} --json", Uuid::from_u128(5));
    let said = desk.says(&format!("{fifth} --most 1"), 3).await;
    assert_eq!(said["applied"], ids(&[1]));
    assert_eq!(said["more"], true);
    let said = desk.says(&fifth, 0).await;
    assert_eq!(said["applied"], ids(&[2, 3, 4, 5]));
    assert_eq!(said["more"], false);
    assert_eq!(
        desk.ids("select id from note order by seq").await,
        [1, 2, 3, 4, 5]
    );

    // One that cannot be had is not tried for ever.
    desk.dead_letters("b", &[(6, "poison")]).await;
    let free = sqlx::query("delete from blocked_key").execute(&desk.pool);
    assert_eq!(free.await.unwrap().rows_affected(), 1);
    let tried = desk.says("redrive --all --most 1000000000 --json", 3);
    let said = tokio::time::timeout(Duration::from_secs(60), tried).await;
    assert_eq!(said.unwrap()["applied"], ids(&[]));
}

#[tokio::test]
async fn dead_letters_that_a_bound_leaves_untried_are_told_by_the_exit_code() {
    let desk = Desk::new().await;
    for (id, does) in [(1, "note"), (2, "note"), (3, "note"), (4, "poison")] {
        let key = id.to_string();
        desk.dead_letter(id, &key, "poison", does, "note.taken")
            .await;
    }
    let keyless = "update dead_letter set key = null; delete from blocked_key";
    sqlx::raw_sql(keyless).execute(&desk.pool).await.unwrap();
    let said = desk.says("redrive --all --most 1 --json", 3).await;
    assert_eq!(said["applied"], ids(&[1]));
    assert_eq!(said["more"], true);
    let (done, written) = desk.run("redrive --all --most 1").await;
    assert_eq!(done.unwrap(), ExitCode::from(STAYS));
    let said =
        "1 tried, and more are left than --most 1 takes: give the command again, or raise it";
    assert!(written.contains(said), "{written}");
    // One that was tried and stays is none that is left.
    let said = desk.says("redrive --all --most 2 --json", 3).await;
    assert_eq!(said["applied"], ids(&[3]));
    assert_eq!(said["failed"][0]["id"], json!(Uuid::from_u128(4)));
    assert_eq!(said["more"], false);

    // What nobody has asked for is none either, nor what waits behind one that stays.
    desk.dead_letters("a", &[(5, "note"), (6, "note")]).await;
    let first = format!("redrive {} --most 1 --json", Uuid::from_u128(5));
    assert_eq!(desk.says(&first, 0).await["more"], false);
    desk.dead_letters("b", &[(7, "poison"), (8, "note")]).await;
    let said = desk.says("redrive --key b --most 2 --json", 3).await;
    assert_eq!(said["more"], false);
}

#[tokio::test]
async fn a_key_that_is_stuck_hides_no_other_from_a_bounded_redrive() {
    let desk = Desk::new().await;
    let parked = [(1, "poison"), (2, "note"), (3, "note"), (4, "note")];
    desk.dead_letters("a", &parked).await;
    desk.dead_letters("b", &[(5, "note"), (6, "note")]).await;
    let tried = desk.says("redrive --all --most 2 --json", STAYS).await;
    assert_eq!(
        (&tried["applied"], &tried["more"]),
        (&ids(&[5]), &json!(true))
    );
    let tried = desk.says("redrive --all --most 2 --json", STAYS).await;
    let (applied, failed) = (&tried["applied"], &tried["failed"][0]["id"]);
    assert_eq!((applied, failed), (&ids(&[6]), &ids(&[1])[0]));
    assert_eq!(tried["more"], false, "none that could be tried");
    let would = desk.says("redrive --all --most 1 --dry-run --json", STAYS);
    assert_eq!(would.await["more"], true);
    assert_eq!(desk.move_to_dead_letter().await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_dry_run_tells_what_a_redrive_would_try() {
    let desk = Desk::new().await;
    desk.dead_letters("a", &[(1, "note"), (2, "note"), (3, "note")])
        .await;
    desk.dead_letters("b", &[(4, "note"), (5, "note")]).await;
    desk.dead_letter(6, "c", "poison", "note", "note.taken")
        .await;
    desk.dead_letter(7, "c", "poison", "note", "note.taken")
        .await;
    let keyless = "update dead_letter set key = null where key = convert_to('c', 'UTF8')";
    sqlx::raw_sql(keyless).execute(&desk.pool).await.unwrap();
    let second = Uuid::from_u128(2);
    for (line, tries, more) in [
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
        let code = if more { STAYS } else { 0 };
        let said = desk.says(&format!("{line} --dry-run --json"), code).await;
        let told = said["dead_letters"].as_array().unwrap();
        let told: Value = told
            .iter()
            .map(|dead_letter| dead_letter["id"].clone())
            .collect();
        assert_eq!((told, &said["more"]), (ids(&tries), &json!(more)), "{line}");
    }
    let (done, written) = desk.run(&format!("redrive {second} --dry-run")).await;
    assert_eq!(done.unwrap(), ExitCode::SUCCESS);
    let what = "3 dead letters would be tried, each key until one of its dead letters fails\n";
    assert!(written.ends_with(what), "{written}");
    assert_eq!(desk.move_to_dead_letter().await, [1, 2, 3, 4, 5, 6, 7]);
    // So does the run, while none fails.
    let said = desk.says("redrive --kind poison --most 4 --json", STAYS);
    assert_eq!(said.await["applied"], ids(&[1, 2, 3, 4]));
}

#[tokio::test]
async fn no_dead_letter_is_an_answer_to_a_list_and_code_3_to_all_else() {
    let desk = Desk::new().await;
    let nobody = Uuid::from_u128(9);
    let none = json!({ "dead_letters": [], "more": false });
    assert_eq!(desk.says("list --json", 0).await, none);
    desk.says(&format!("show {nobody} --json"), 3).await;
    for line in ["redrive --all", "discard --all --reason r --yes"] {
        desk.says(&format!("{line} --json"), 3).await;
        desk.says(&format!("{line} --json --dry-run"), 3).await;
        assert_eq!(desk.run(line).await.1, "no dead letters\n");
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
async fn a_dead_letter_that_cannot_be_tried_holds_up_no_other_key() {
    let desk = Desk::new().await;
    desk.dead_letters("a", &[(1, "lack"), (2, "note")]).await;
    desk.dead_letters("b", &[(3, "note"), (4, "note")]).await;
    let (done, written) = desk.run("redrive --all --json").await;
    assert!(matches!(done, Err(Error::Untried(1))), "{done:?}");
    let said: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(said["applied"], ids(&[3, 4]));
    assert_eq!(said["untried"][0]["id"], json!(Uuid::from_u128(1)));
    let error = said["untried"][0]["error"].as_str().unwrap();
    assert!(error.contains("lacking"), "{error}");
    assert_eq!(desk.move_to_dead_letter().await, [1, 2]);
}

#[tokio::test]
async fn what_was_applied_is_told_though_the_database_is_gone_then() {
    let desk = Desk::new().await;
    desk.dead_letters("a", &[(1, "note"), (2, "close"), (3, "note")])
        .await;
    let (done, written) = desk.run("redrive --all --json").await;
    assert!(matches!(done, Err(Error::Database(_))), "{done:?}");
    let error = done.unwrap_err().to_string();
    for what in ["database is up", "roles.sql", "`migrate`"] {
        assert!(error.contains(what), "{error}");
    }
    let said: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(said["applied"], ids(&[1, 2]));
}

#[tokio::test]
async fn no_dead_letter_moves_the_cursor_of_a_terminal() {
    let desk = Desk::new().await;
    desk.dead_letter(1, "a", "poison", "poison", ESCAPES).await;
    desk.dead_letter(2, "b", "poison", "poison", "note.taken")
        .await;
    let plain = |text: &str, lines: usize| {
        let controls = text.chars().filter(|character| character.is_control());
        assert!(controls.clone().all(|control| control == '\n'), "{text:?}");
        assert_eq!(controls.count(), lines, "{text:?}");
        assert!(text.contains(r"\u{1b}[2J\nfake"), "{text}");
    };
    let (_, listed) = desk.run("list").await;
    plain(&listed, 3);
    let (_, shown) = desk.run(&format!("show {}", Uuid::from_u128(1))).await;
    plain(&shown, 6);
    // The error of the second one; then it is the dead letter's.
    let (done, failed) = desk.run("redrive --key b").await;
    assert_eq!(done.unwrap(), ExitCode::from(STAYS));
    plain(&failed, 3);
    let (_, listed) = desk.run("list --key b").await;
    plain(&listed, 2);
    let (_, discarded) = desk.run("discard --key a --reason r --yes").await;
    plain(&discarded, 2);
}

/// The most memory that this process has had since it was [forgotten](forget_the_most), in megabytes.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = most.unwrap().trim().trim_end_matches(" kB");
    most.parse::<u64>().unwrap() / 1000
}

fn forget_the_most() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

#[tokio::test]
async fn a_command_over_many_large_dead_letters_holds_few_of_them_at_once() {
    let desk = Desk::new().await;
    for id in 1..=150 {
        let key = id.to_string();
        desk.dead_letter(id, &key, "poison", "note", "note.taken")
            .await;
    }
    let enlarge = "update dead_letter set value = convert_to(
        format('{\"does\": \"note\", \"pad\": \"%s\"}', repeat('x', 900000)), 'UTF8')";
    sqlx::raw_sql(enlarge).execute(&desk.pool).await.unwrap();
    for line in [
        "list --most 1000 --json",
        "list --most 1000",
        "redrive --all --dry-run",
        "discard --all --dry-run --json",
        "redrive --type note.taken --most 70",
        "discard --all --reason r --yes",
    ] {
        forget_the_most();
        let before = most_memory();
        let (done, written) = desk.run(line).await;
        // The kernel counts roughly: it may be less.
        let rises = most_memory().saturating_sub(before);
        done.unwrap();
        assert!(rises < 40, "{line} takes {rises} MB");
        assert!(written.len() > 1000, "{written}");
    }
    assert_eq!(desk.move_to_dead_letter().await, []);
    assert_eq!(desk.ids("select id from note").await.len(), 70);
}

#[tokio::test]
async fn only_a_yes_drops() {
    let desk = Desk::new().await;
    desk.dead_letters("a", &[(1, "poison"), (2, "note")]).await;
    for answer in ["no\n", "\n", "y\n", "yes, but\n", ""] {
        let (done, written) = desk.asks("discard --all --reason r", Some(answer)).await;
        assert_eq!(done.unwrap(), ExitCode::from(STAYS), "{answer:?}");
        assert!(written.contains("Discard 2 dead letters?"), "{written}");
        assert!(written.ends_with("nothing is discarded\n"), "{written}");
        assert_eq!(desk.move_to_dead_letter().await, [1, 2], "{answer:?}");
    }
    // Nobody is there, or whoever reads the answer is a program.
    for (line, answer) in [
        ("discard --all --reason r", None),
        ("discard --all --reason r --json", Some("yes\n")),
    ] {
        let (done, _) = desk.asks(line, answer).await;
        assert!(matches!(done, Err(Error::NotAsked(2))), "{done:?}");
        assert_eq!(desk.move_to_dead_letter().await, [1, 2], "{line}");
    }
    let (done, written) = desk.asks("discard --all --reason r", Some("yes\n")).await;
    assert_eq!(done.unwrap(), ExitCode::SUCCESS, "{written}");
    assert_eq!(desk.move_to_dead_letter().await, []);
    assert_eq!(
        desk.ids("select id from discarded_dead_letter").await.len(),
        2
    );
}
