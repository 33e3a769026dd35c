//! The lengths of time that the scheduler decides by, and how they relate.

use roost_proto::room::EXPECTED_TOLD_MS;

/// Nodes report this often.
pub const REPORT_EVERY_MS: u64 = 1_000;
/// A node is suspect when two reports in a row are missing, with some slack for the way.
pub const SUSPECT_AFTER_MS: u64 = 2 * REPORT_EVERY_MS + 500;
/// The lease of a node that says nothing else.
pub const DEFAULT_LEASE_MS: u64 = 4_000;
/// The longest lease that counts: a report that claims more does not hold up a grace any longer.
pub const MAX_LEASE_MS: u64 = 60_000;
/// A grant waits this long for the first participant.
pub const GRANT_TTL_MS: u64 = 30_000;
/// A lookup prolongs a grant of which this much is used up.
pub const PROLONG_AFTER_MS: u64 = GRANT_TTL_MS / 3;
/// The participants of a room are taken to have come after this long.
pub const FILL_MS: u64 = 120_000;
/// From then on participants that were expected and did not come count less each of these steps.
pub const EXPECT_STEP_MS: u64 = 15_000;
/// Nobody who has not come by then is expected any more.
pub const EXPECT_MS: u64 = 180_000;
/// A lookup waits at most this long for something that is about to be known.
pub const LOOKUP_WAIT_MS: u64 = 2_000;
/// The scheduler looks at its timers this often.
pub const TICK_MS: u64 = 250;
/// A scheduler that was away for longer (paused, suspended) does not take its nodes' silence for theirs.
pub const STALL_MS: u64 = 1_500;

const _: () = assert!(2 * REPORT_EVERY_MS < SUSPECT_AFTER_MS, "two missing reports make a suspect, not one");
const _: () = assert!(SUSPECT_AFTER_MS < DEFAULT_LEASE_MS, "a node is suspect before it is lost");
const _: () = assert!(DEFAULT_LEASE_MS <= MAX_LEASE_MS);
const _: () = assert!(STALL_MS + REPORT_EVERY_MS <= SUSPECT_AFTER_MS, "a stall that goes unnoticed makes no suspect");
const _: () = assert!(4 * TICK_MS < STALL_MS, "a late tick is no stall");
const _: () = assert!(LOOKUP_WAIT_MS < GRANT_TTL_MS - PROLONG_AFTER_MS, "a grant outlives the wait for it");
const _: () = assert!(LOOKUP_WAIT_MS < DEFAULT_LEASE_MS, "no lookup outlasts a grace, nor a proof the run it is of");
const _: () =
    assert!(2 * GRANT_TTL_MS <= FILL_MS, "a grant for which nobody came is over before its expectation fades");
const _: () = assert!(EXPECT_MS <= EXPECTED_TOLD_MS, "who begins to watch is told of all that counts");
const _: () = assert!(FILL_MS < EXPECT_MS, "an expectation fades, it does not drop");
const _: () = assert!(FILL_MS.is_multiple_of(EXPECT_STEP_MS) && EXPECT_MS.is_multiple_of(EXPECT_STEP_MS));
const _: () = assert!(4 * TICK_MS <= EXPECT_STEP_MS, "steps are found by ticks");
