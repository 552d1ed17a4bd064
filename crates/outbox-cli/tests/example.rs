//! The example, run as a program: it logs to standard output while its commands write there.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{ConnectOptions, Connection};
use stack::testing::{self, Context, Database, database};

/// A dead letter is applied or discarded within milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A database that the example has migrated, with a dead letter of its listener.
async fn with_a_dead_letter() -> Database {
    let database = database(Context::Order).await;
    written(&database, "order_owner", "migrate");
    let mut owner = database.options("order_owner").connect().await.unwrap();
    let dead_letter = r#"insert into orders (id) values ('00000000-0000-0000-0000-000000000001');
         insert into dead_letter (listener, id, kind, error, topic, partition, "offset", header_names, header_values, value)
         values ('payments', '00000000-0000-0000-0000-000000000002', 'poison', 'wrong', 'payment', 0, 0, '{event_type}',
                 array[convert_to('payment.captured', 'UTF8')],
                 convert_to('{"order_id": "00000000-0000-0000-0000-000000000001"}', 'UTF8'))"#;
    sqlx::raw_sql(dead_letter)
        .execute(&mut owner)
        .await
        .unwrap();
    owner.close().await.unwrap();
    database
}

/// The example, with the password of `role`.
fn example(database: &Database, role: &str, arguments: &str) -> Command {
    let secret = std::fs::read_to_string(database.secrets.join(role)).unwrap();
    let mut command = Command::new(testing::example("examples/service.rs"));
    command
        .args(arguments.split_whitespace())
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", database.port.to_string())
        .env("PGDATABASE", &database.name)
        .env("PGPASSWORD", secret.trim_end())
        .env("RUST_LOG", "info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn spawn(mut command: Command) -> Child {
    let child = command.spawn();
    child.expect("`cargo build -p outbox-cli --examples` builds it")
}

/// Runs the example to its end.
fn run(database: &Database, role: &str, arguments: &str) -> Output {
    ended(spawn(example(database, role, arguments)), arguments)
}

fn ended(mut child: Child, arguments: &str) -> Output {
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
fn written(database: &Database, role: &str, arguments: &str) -> String {
    let output = run(database, role, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_program_that_logs_to_standard_output_redrives() {
    let database = with_a_dead_letter().await;
    let written = written(&database, "order_service", "dead-letters redrive --all");
    assert!(written.contains("order is paid"), "{written}");
    assert!(written.contains("1 applied, 0 failed"), "{written}");
}

#[tokio::test]
async fn a_program_that_logs_to_standard_output_discards() {
    let database = with_a_dead_letter().await;
    let discard = "dead-letters discard --all --yes --reason refunded";
    let written = written(&database, "order_service", discard);
    assert!(written.contains("discarded a dead letter"), "{written}");
    assert!(written.contains("1 discarded, 0 gone"), "{written}");
}

#[tokio::test]
async fn ctrl_c_at_the_question_ends_the_command_and_discards_nothing() {
    let database = with_a_dead_letter().await;
    let discard = "dead-letters discard --all --reason refunded";
    let terminal = openpty(None, None).unwrap();
    let mut command = example(&database, "order_service", discard);
    command.stdin(terminal.slave);
    let mut child = spawn(command);
    let mut said = Vec::new();
    let mut output = child.stdout.take().unwrap();
    while !String::from_utf8_lossy(&said).contains("Type yes:") {
        let mut bytes = [0; 1024];
        let count = output.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&said));
        said.extend(&bytes[..count]);
    }
    // What the terminal sends at Ctrl-C.
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let status = ended(child, discard).status;
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{status}");
    let left = written(&database, "order_service", "dead-letters list");
    assert!(left.contains("1 dead letter\n"), "{left}");
}

#[tokio::test]
async fn the_commands_of_a_publisher_are_mounted_beside_the_services_own() {
    let database = database(Context::Order).await;
    let connector = written(&database, "order_service", "connector");
    assert!(
        connector.contains(r#""name": "order-outbox""#),
        "{connector}"
    );
    let unmigrated = run(&database, "order_service", "check-outbox");
    let why = String::from_utf8(unmigrated.stderr).unwrap();
    assert!(!unmigrated.status.success(), "{why}");
    assert!(why.contains("table outbox"), "{why}");
}
