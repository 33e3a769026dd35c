//! The same random course of operations against the specification, the embedded store and the scripts in Redis: every
//! answer, every event and what is left at the end must be the same.
//!
//! Epochs and incarnations come from clocks that differ, so they are compared by their order: `e3` is the fourth epoch
//! that a party gave.

mod engine;
mod operation;
mod party;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::server::Server;
use operation::Operation;
use party::Party;

#[test]
fn all_stores_do_as_the_specification_says_over_many_runs() {
    check(120, proptest::collection::vec(operation::any(true), 1..60), false);
}

#[test]
fn all_stores_tell_the_same_events_as_the_specification() {
    check(60, proptest::collection::vec(operation::any(false), 1..60), true);
}

fn check(cases: u32, courses: impl Strategy<Value = Vec<Operation>>, watched: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::start());
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    let mut runner = TestRunner::new(Config { cases, ..Config::with_source_file(file!()) });
    let outcome = runner.run(&courses, |course| runtime.block_on(follow(&server, &course, watched)));
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

async fn follow(server: &Server, course: &[Operation], watched: bool) -> Result<(), TestCaseError> {
    let mut specification = Party::specification().await;
    let mut others = [Party::embedded().await, Party::redis(server).await];
    if watched {
        for other in &mut others {
            other.watch().await;
        }
    }
    for (number, operation) in course.iter().enumerate() {
        let expected = specification.apply(operation).await;
        for other in &mut others {
            let answer = other.apply(operation).await;
            let what = format!("step {number}, {operation:?}, {}", other.name());
            proptest::prop_assert_eq!(&answer, &expected, "{}", what);
        }
    }
    let left = specification.remains().await;
    let events = specification.told(0).await;
    for other in &mut others {
        proptest::prop_assert_eq!(other.remains().await, left.clone(), "{}", other.name());
        if watched {
            proptest::prop_assert_eq!(other.told(events.len()).await, events.clone(), "{}", other.name());
        }
    }
    Ok(())
}
