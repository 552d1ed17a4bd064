//! The real listener on real Kafka and real PostgreSQL, in plans drawn at random: messages of every fate, workers that are
//! started, stopped, killed and frozen while others take over, operators who redrive and drop at once, connections that
//! break. Whatever the plan, each event has exactly one effect, in the order of its key (`listener/invariant.rs`).
//!
//! `tests/model.rs` looks at every interleaving of a model of the protocol; this draws some of the code itself. A plan
//! decides what happens and when, not how threads and servers interleave: a plan that failed may hold when it is run
//! again. What a failing test prints is run again by
//! `OUTBOX_PLAN='{…}' cargo test -p outbox --features listener --test listener`.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(clippy::print_stdout, reason = "it tells what the plans have come to")]

#[path = "listener/clerk.rs"]
mod clerk;
#[path = "listener/death.rs"]
mod death;
#[path = "listener/invariant.rs"]
mod invariant;
#[path = "listener/office.rs"]
mod office;
#[path = "listener/plan.rs"]
mod plan;
#[path = "listener/stall.rs"]
mod stall;
#[path = "listener/topic.rs"]
mod topic;
#[path = "listener/window.rs"]
mod window;
#[path = "listener/worker.rs"]
mod worker;

use std::time::{Duration, Instant};

use office::Office;
use plan::Plan;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Runtime;

/// A case takes long, and a plan that is smaller by chance may hold where the greater one failed: so not long.
const SHRINK_WITHIN: Duration = Duration::from_secs(120);

/// No case takes nearly as long; one that does hangs.
const CASE_WITHIN: Duration = Duration::from_secs(400);

async fn run(plan: &Plan) -> Result<(), String> {
    let case = tokio::time::timeout(CASE_WITHIN, Box::pin(runs(plan)));
    case.await
        .unwrap_or_else(|_| Err("the case does not come to an end".to_owned()))
}

async fn runs(plan: &Plan) -> Result<(), String> {
    let began = Instant::now();
    let mut office = Office::open(plan).await;
    for step in &plan.steps {
        office.does(&step.action).await;
        tokio::time::sleep(Duration::from_millis(step.then_wait_ms.into())).await;
        office.holds().await?;
    }
    let planned = began.elapsed();
    office.settles().await?;
    println!(
        "{}; {planned:.1?} planned, {:.1?} in all",
        office.story().await,
        began.elapsed()
    );
    Ok(())
}

fn holds(cases: u32) {
    let runtime = Runtime::new().unwrap();
    if let Ok(plan) = std::env::var("OUTBOX_PLAN") {
        let plan: Plan = serde_json::from_str(&plan).unwrap();
        runtime.block_on(run(&plan)).unwrap();
        return;
    }
    let mut runner = TestRunner::new(Config {
        cases,
        // A seed would not bring the interleaving back.
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
    holds(4);
}

#[test]
#[ignore = "takes minutes"]
fn whatever_happens_for_long_each_event_has_one_effect_in_the_order_of_its_key() {
    holds(40);
}

#[test]
fn a_worker_that_stood_still_until_the_inbox_had_forgotten_writes_nothing() {
    Runtime::new()
        .unwrap()
        .block_on(stall::forgotten())
        .unwrap();
}

#[test]
fn one_that_fails_strangely_holds_up_no_other_key_however_much_waits_behind_it() {
    Runtime::new()
        .unwrap()
        .block_on(window::passes(false))
        .unwrap();
}

#[test]
fn one_that_fails_strangely_holds_up_nobody_however_much_comes_again_after_it() {
    Runtime::new()
        .unwrap()
        .block_on(window::passes(true))
        .unwrap();
}

#[test]
fn two_keys_that_fail_strangely_hold_up_no_other_however_much_waits_behind_them() {
    Runtime::new()
        .unwrap()
        .block_on(window::passes_two())
        .unwrap();
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "only builds with debug assertions die where they are told to"
)]
fn a_process_that_dies_at_any_step_loses_nothing_and_does_nothing_twice() {
    if let Ok(charge) = std::env::var(death::WORKER) {
        death::listens(&charge);
        return;
    }
    Runtime::new()
        .unwrap()
        .block_on(death::at_any_step())
        .unwrap();
}
