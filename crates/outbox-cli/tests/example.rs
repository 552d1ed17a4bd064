//! The example, run as a program: it logs to standard output while its commands write there.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use outbox::schema::{self, Part, Roles};
use sqlx::PgPool;
use stack::testing::{Context, Database, database};

/// A dead letter is applied or discarded within milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A database with a dead letter of the example's listener.
async fn with_a_dead_letter() -> Database {
    let database = database(Context::Order).await;
    let pool = PgPool::connect_with(database.options("order_owner"))
        .await
        .unwrap();
    let mut owner = pool.acquire().await.unwrap();
    let parts = [Part::Publisher, Part::Listener];
    schema::migrate(&mut owner, &parts, &Roles::default())
        .await
        .unwrap();
    drop(owner);
    let dead_letter = r#"create table orders (id uuid primary key, paid boolean not null default false);
         insert into orders (id) values ('00000000-0000-0000-0000-000000000001');
         insert into dead_letter (listener, id, kind, error, topic, partition, "offset", header_names, header_values, value)
         values ('payments', '00000000-0000-0000-0000-000000000002', 'poison', 'wrong', 'payment', 0, 0, '{event_type}',
                 array[convert_to('payment.captured', 'UTF8')],
                 convert_to('{"order_id": "00000000-0000-0000-0000-000000000001"}', 'UTF8'))"#;
    sqlx::raw_sql(dead_letter).execute(&pool).await.unwrap();
    pool.close().await;
    database
}

/// Runs the example to its end.
fn run(database: &Database, arguments: &str) -> Output {
    // Cargo builds examples for every test, unless it is given `--test` or `--tests`.
    let tests = std::env::current_exe().unwrap();
    let built: PathBuf = tests.ancestors().nth(2).unwrap().join("examples/service");
    let secret = std::fs::read_to_string(database.secrets.join("order_owner")).unwrap();
    let mut child = Command::new(&built)
        .args(arguments.split_whitespace())
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", database.port.to_string())
        .env("PGDATABASE", &database.name)
        .env("PGPASSWORD", secret.trim_end())
        .env("RUST_LOG", "info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`cargo build -p outbox-cli --examples` builds it");
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!(
                "`{arguments}` hangs: {:?}",
                child.wait_with_output().unwrap()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// What the command and the log have written to standard output.
fn written(database: &Database, arguments: &str) -> String {
    let output = run(database, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_program_that_logs_to_standard_output_redrives() {
    let database = with_a_dead_letter().await;
    let written = written(&database, "dead-letters redrive --all");
    assert!(written.contains("order is paid"), "{written}");
    assert!(written.contains("1 applied, 0 failed"), "{written}");
}

#[tokio::test]
async fn a_program_that_logs_to_standard_output_discards() {
    let database = with_a_dead_letter().await;
    let discard = "dead-letters discard --all --yes --reason refunded";
    let written = written(&database, discard);
    assert!(written.contains("discarded a dead letter"), "{written}");
    assert!(written.contains("1 discarded, 0 gone"), "{written}");
}
