//! `connect reread` that ends early, at each of its steps: killed, interrupted, or without Kafka Connect.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;

use crate::reconciler::Fixture;
use crate::world::World;
use crate::world::proxy::{Proxy, Then};

/// The requests of a re-read that change something: mark, stop, delete the offsets, remove the mark, resume.
const STEPS: usize = 5;
/// How long a command may take to reach a step.
const WITHIN: Duration = Duration::from_secs(60);

/// Starts `connect reread`.
fn start(fixture: &Fixture, url: &str) -> Child {
    Command::new(fixture.world.stack.binaries.join("connect"))
        .args(["--url", url, "reread", &fixture.name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for its end; the others of this test go on meanwhile.
async fn ended(command: Child) -> (Option<i32>, String) {
    let output: Output = tokio::task::spawn_blocking(|| command.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

async fn reached(steps: &mut mpsc::Receiver<()>) {
    tokio::time::timeout(WITHIN, steps.recv())
        .await
        .unwrap()
        .unwrap();
}

/// Runs it to its end.
async fn completes(fixture: &Fixture) {
    let (code, said) = ended(start(fixture, &fixture.world.stack.connect_url)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!fixture.is_rereading().await);
}

#[tokio::test]
async fn a_reread_that_is_killed_after_any_step_is_finished_by_the_reconciler_and_by_the_next_one()
{
    let mut fixture = Fixture::new(World::new().await).await;
    fixture.declare(&fixture.config);
    fixture.settle().await;
    for step in 1..=STEPS {
        let (proxy, mut steps) =
            Proxy::start(&fixture.world.stack.connect_url, step, Then::Withhold).await;
        let mut command = start(&fixture, &proxy.url);
        reached(&mut steps).await;
        command.kill().unwrap();
        command.wait().unwrap();
        // The mark is there from its request on until the offsets are deleted.
        assert_eq!(fixture.is_rereading().await, step < 4, "step {step}");
        if step % 2 == 1 {
            fixture.settle().await;
            assert!(!fixture.is_rereading().await, "step {step}");
            assert!(fixture.is_running().await, "step {step}");
        }
        completes(&fixture).await;
        assert!(fixture.is_running().await, "step {step}");
    }
    fixture.end().await;
}

#[tokio::test]
async fn a_reread_that_is_interrupted_after_any_step_resumes_the_connector_and_says_what_happened()
{
    let mut fixture = Fixture::new(World::new().await).await;
    fixture.declare(&fixture.config);
    fixture.settle().await;
    for (step, signal, left) in [
        (1, Signal::SIGINT, "does not read its outbox again"),
        (2, Signal::SIGTERM, "does not read its outbox again"),
        (3, Signal::SIGINT, "may not read its outbox again"),
        (4, Signal::SIGTERM, "reads its outbox again"),
        (5, Signal::SIGINT, "reads its outbox again"),
    ] {
        let (proxy, mut steps) =
            Proxy::start(&fixture.world.stack.connect_url, step, Then::Withhold).await;
        let command = start(&fixture, &proxy.url);
        reached(&mut steps).await;
        kill(Pid::from_raw(command.id().try_into().unwrap()), signal).unwrap();
        let (code, said) = ended(command).await;
        assert_eq!(code, Some(130), "step {step}: {said}");
        assert!(said.contains(left), "step {step}: {said}");
        // No reconciler has run.
        assert!(!fixture.is_rereading().await, "step {step}");
        fixture.runs().await;
    }
    fixture.end().await;
}

#[tokio::test]
async fn a_reread_that_loses_kafka_connect_names_the_command_and_the_reconciler_finishes_it() {
    let mut fixture = Fixture::new(World::new().await).await;
    fixture.declare(&fixture.config);
    fixture.settle().await;
    for step in 1..=STEPS {
        let (proxy, _steps) =
            Proxy::start(&fixture.world.stack.connect_url, step, Then::Vanish).await;
        let (code, said) = ended(start(&fixture, &proxy.url)).await;
        assert_eq!(code, Some(1), "step {step}: {said}");
        let again = format!("connect --url {} reread {}", proxy.url, fixture.name);
        let is_said = said.contains(&again);
        assert!(is_said, "step {step}: {said}");
        fixture.settle().await;
        assert!(!fixture.is_rereading().await, "step {step}");
    }
    completes(&fixture).await;
    fixture.end().await;
}
