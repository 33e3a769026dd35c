//! Lookups on and on, of rooms that live and of rooms that nobody knows yet, while something else is broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use roost_tests::Trouble;

use crate::caller::{Caller, Told};
use crate::crowd::Crowd;
use crate::full_or;

/// How long a caller waits between two lookups.
const PAUSE: Duration = Duration::from_millis(20);
const EXAMPLES: usize = 5;

/// Callers that go on until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Tally>,
}

/// What the callers were told.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) asked: u64,
    /// Lookups for which another scheduler had to be asked.
    pub(crate) retried: u64,
    /// Lookups that two schedulers did not answer.
    pub(crate) failed: u64,
    /// Lookups of a living room that named another node, or a lower epoch.
    pub(crate) wrong: u64,
    /// Some of those that failed or were wrong.
    pub(crate) examples: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.retried += other.retried;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES);
    }

    pub(crate) fn failed(&mut self, trouble: &Trouble) {
        self.failed += 1;
        self.example(trouble.to_string());
    }

    pub(crate) fn wrong(&mut self, what: String) {
        self.wrong += 1;
        self.example(what);
    }

    fn example(&mut self, what: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(what);
        }
    }
}

impl Load {
    /// Looks up the crowd's rooms, and each fourth time a new one if `also_new`.
    pub(crate) fn start(addresses: &Arc<[String]>, crowd: &Crowd, also_new: bool) -> Self {
        let living: Arc<[(String, Told)]> =
            crowd.rooms.iter().map(|(room, told)| (room.clone(), told.clone())).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for number in 0..full_or(64, 8) {
            let caller = Caller::new(addresses);
            callers.spawn(go_on(number, caller, living.clone(), also_new, stop.clone()));
        }
        Self { stop, callers }
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> Result<Tally, Trouble> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        while let Some(tally) = self.callers.join_next().await {
            all.add(tally?);
        }
        Ok(all)
    }
}

async fn go_on(
    number: u64,
    mut caller: Caller,
    living: Arc<[(String, Told)]>,
    also_new: bool,
    stop: Arc<AtomicBool>,
) -> Tally {
    let mut random = Pcg64Mcg::seed_from_u64(number);
    let mut tally = Tally::default();
    let mut pace = interval(PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let first = random.random_range(0..16);
        let is_new = also_new && random.random_ratio(1, 4);
        let (room, before) = &living[random.random_range(0..living.len())];
        let told = if is_new {
            caller.look_up(first, &format!("new-{number}-{}", tally.asked), "{}").await
        } else {
            caller.look_up(first, room, "{}").await
        };
        tally.asked += 1;
        match told {
            Ok(told) => {
                tally.retried += u64::from(told.retried.is_some());
                if !is_new && (told.node != before.node || told.epoch < before.epoch) {
                    tally.wrong(format!("{room}: {before:?}, then {told:?}"));
                }
            }
            Err(trouble) => tally.failed(&trouble),
        }
    }
    tally
}
