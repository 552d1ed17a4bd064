//! Tests of the listener on real Kafka and real PostgreSQL by random plans: messages that apply or fail in every way, workers
//! that are started, stopped, killed and frozen while others take over, operators who redrive and discard at the same time,
//! connections that break. Whatever the plan, each event has exactly one effect, in the order of its key
//! (`listener/invariant.rs`).
//!
//! `tests/model.rs` explores every interleaving of a model of the protocol; this test samples those of the code itself. A plan
//! determines the actions and their times, not how threads and servers interleave: a plan that failed may hold when it is run
//! again. A failing test prints its plan; run it again with
//! `OUTBOX_PLAN='{…}' cargo test -p outbox --features listener --test listener`.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(clippy::print_stdout, reason = "each case prints a summary")]

#[path = "listener/cluster.rs"]
mod cluster;
#[path = "listener/crash.rs"]
mod crash;
#[path = "listener/handler.rs"]
mod handler;
#[path = "listener/invariant.rs"]
mod invariant;
#[path = "listener/open_transaction.rs"]
mod open_transaction;
#[path = "listener/operator.rs"]
mod operator;
#[path = "listener/plan.rs"]
mod plan;
#[path = "listener/recreated_topic.rs"]
mod recreated_topic;
#[path = "listener/stall.rs"]
mod stall;
#[path = "listener/topic.rs"]
mod topic;
#[path = "listener/unknown_failure.rs"]
mod unknown_failure;
#[path = "listener/worker.rs"]
mod worker;

use std::time::{Duration, Instant};

use cluster::Cluster;
use plan::Plan;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Runtime;

/// The time limit for shrinking. It is short: a case takes long, and a smaller plan may hold by chance.
const SHRINK_WITHIN: Duration = Duration::from_secs(120);

/// The time limit of a case. A case that reaches it hangs.
const CASE_WITHIN: Duration = Duration::from_secs(400);

async fn run(plan: &Plan) -> Result<(), String> {
    let case = tokio::time::timeout(CASE_WITHIN, Box::pin(run_to_end(plan)));
    case.await
        .unwrap_or_else(|_| Err("the case does not end".to_owned()))
}

async fn run_to_end(plan: &Plan) -> Result<(), String> {
    let began = Instant::now();
    let mut cluster = Cluster::open(plan).await;
    for step in &plan.steps {
        cluster.perform(&step.action).await;
        tokio::time::sleep(Duration::from_millis(step.then_wait_ms.into())).await;
        cluster.check().await?;
    }
    let planned = began.elapsed();
    cluster.settle().await?;
    println!(
        "{}; {planned:.1?} planned, {:.1?} in all",
        cluster.summary().await,
        began.elapsed()
    );
    Ok(())
}

fn run_random_plans(cases: u32) {
    let runtime = Runtime::new().unwrap();
    if let Ok(plan) = std::env::var("OUTBOX_PLAN") {
        let plan: Plan = serde_json::from_str(&plan).unwrap();
        runtime.block_on(run(&plan)).unwrap();
        return;
    }
    let mut runner = TestRunner::new(Config {
        cases,
        // A seed would not reproduce the interleaving.
        failure_persistence: None,
        max_shrink_time: SHRINK_WITHIN.as_millis().try_into().unwrap(),
        ..Config::default()
    });
    let outcome = runner.run(&plan::plan(), |plan| {
        let outcome = runtime.block_on(run(&plan));
        if let Err(why) = &outcome {
            println!("failed: {why}\n{plan:?}");
        }
        outcome.map_err(TestCaseError::fail)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn whatever_happens_to_workers_each_event_has_one_effect_in_the_order_of_its_key() {
    run_random_plans(4);
}

#[test]
#[ignore = "takes minutes"]
fn whatever_happens_for_long_each_event_has_one_effect_in_the_order_of_its_key() {
    run_random_plans(40);
}

#[test]
fn a_worker_blocked_until_after_the_retention_of_the_inbox_writes_nothing() {
    Runtime::new()
        .unwrap()
        .block_on(stall::writes_nothing_after_retention())
        .unwrap();
}

#[test]
fn an_open_transaction_that_hides_messages_shows_in_lag_and_readiness_until_it_ends() {
    Runtime::new()
        .unwrap()
        .block_on(open_transaction::is_shown_until_it_ends())
        .unwrap();
}

#[test]
fn a_topic_that_is_recreated_under_a_running_worker_is_read_whole() {
    Runtime::new()
        .unwrap()
        .block_on(recreated_topic::is_read_whole_by_a_running_worker(3))
        .unwrap();
}

#[test]
fn a_topic_that_is_recreated_while_the_worker_is_away_is_read_whole() {
    Runtime::new()
        .unwrap()
        .block_on(recreated_topic::is_read_whole_by_a_worker_that_was_away(2))
        .unwrap();
}

#[test]
#[ignore = "takes minutes"]
fn a_topic_that_is_recreated_again_and_again_is_read_whole_each_time() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(recreated_topic::is_read_whole_by_a_running_worker(20))
        .unwrap();
    runtime
        .block_on(recreated_topic::is_read_whole_by_a_worker_that_was_away(20))
        .unwrap();
}

#[test]
fn a_topic_that_is_deleted_under_a_running_worker_is_named_until_it_is_there_again() {
    Runtime::new()
        .unwrap()
        .block_on(recreated_topic::is_named_while_it_is_missing())
        .unwrap();
}

#[test]
fn an_unknown_failure_holds_up_no_other_key_however_many_messages_of_its_key_wait() {
    Runtime::new()
        .unwrap()
        .block_on(unknown_failure::holds_up_no_other(false))
        .unwrap();
}

#[test]
fn an_unknown_failure_holds_up_no_other_key_however_many_duplicates_follow_it() {
    Runtime::new()
        .unwrap()
        .block_on(unknown_failure::holds_up_no_other(true))
        .unwrap();
}

#[test]
fn unknown_failures_of_two_keys_hold_up_no_other_key_however_many_messages_of_them_wait() {
    Runtime::new()
        .unwrap()
        .block_on(unknown_failure::two_keys_hold_up_no_other())
        .unwrap();
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "only builds with debug assertions have failpoints"
)]
fn a_process_that_dies_at_any_step_loses_nothing_and_does_nothing_twice() {
    if let Ok(setup) = std::env::var(crash::WORKER) {
        crash::run_worker(&setup);
        return;
    }
    Runtime::new()
        .unwrap()
        .block_on(crash::at_every_step())
        .unwrap();
}
