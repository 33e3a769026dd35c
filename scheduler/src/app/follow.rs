//! Follows the store: folds its events into the view, tells it that we live, and keeps time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use roost_proto::admin::NodeState;
use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::Epoch;
use roost_proto::room::Run;
use roost_scheduler_core::time::TICK_MS;
use roost_scheduler_core::view::Wanted;
use roost_store::StoreError;
use roost_store::operation::Raise;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Scheduler;
use crate::metrics::Levels;
use crate::outbound::commands::Commands;

/// How many events are folded under one lock.
const BATCH: usize = 256;
/// A scheduler tells the store this often that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// For how long the store believes it.
const ENLISTED_MS: u64 = 5_000;
/// Pauses between attempts to watch the store again.
const PAUSES_MS: [u64; 5] = [50, 200, 500, 1_000, 2_000];
/// A watch that ends earlier has failed too: it reads everything that is there, and must not do so again and again.
const LASTING_MS: u64 = 10_000;

const _: () = assert!(3 * BEAT.as_millis() < ENLISTED_MS as u128, "a living scheduler stays on the list");

/// Watches the store, again and again, until the process ends.
pub(crate) async fn follow(scheduler: Arc<Scheduler>, commands: Commands, look: Arc<Notify>) {
    let mut failed = 0;
    let mut is_told = false;
    loop {
        failed += 1;
        match scheduler.begin_watch().await {
            Ok(events) => {
                tracing::info!(store = scheduler.store.kind(), "events come from the store");
                is_told = false;
                let began = scheduler.clock.now();
                scheduler.fold_all(events, &commands, &look).await;
                let now = scheduler.clock.now();
                scheduler.view_mut().stop_listening(now);
                tracing::warn!("no events come from the store any more");
                if now.since(began) >= LASTING_MS {
                    failed = 0;
                }
            }
            Err(error) if !is_told => {
                tracing::warn!(%error, "the store cannot be watched; trying again");
                is_told = true;
            }
            Err(_) => {}
        }
        sleep(Duration::from_millis(PAUSES_MS[failed.min(PAUSES_MS.len() - 1)])).await;
    }
}

/// Tells the store every second that we live, and asks it how it is.
pub(crate) async fn beat(scheduler: Arc<Scheduler>, look: Arc<Notify>) {
    let mut posted: Vec<Option<(Run, Epoch)>> = vec![None; usize::from(BUCKETS)];
    loop {
        if let Err(error) = scheduler.beat(&mut posted).await {
            tracing::debug!(%error, "the store did not answer");
        }
        tokio::select! {
            () = sleep(BEAT) => {}
            () = look.notified() => {}
        }
    }
}

/// Keeps time for the view, and shows how things are.
pub(crate) async fn tick(scheduler: Arc<Scheduler>) {
    let mut ticks = interval(Duration::from_millis(TICK_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        scheduler.tick();
    }
}

impl Scheduler {
    /// The runs are read before the watch begins: what it tells is of these runs or of later ones.
    async fn begin_watch(&self) -> Result<mpsc::Receiver<Event>, StoreError> {
        // Once the time is known it is told on without the store's help, of which a part may be away.
        if let Err(error) = self.learn_time().await
            && !self.clock.knows_store()
        {
            return Err(error);
        }
        self.learn_runs().await?;
        self.learn_identity().await?;
        let watch = self.store.watch_some().await;
        self.metrics.store_called("watch", &watch);
        let (buckets, events) = watch?;
        let away = usize::from(BUCKETS) - buckets.len();
        if away > 0 {
            tracing::warn!(buckets = away, "a part of the store is away: nothing is heard of it");
        }
        let now = self.clock.now();
        self.view_mut().listen_to(&buckets, now);
        if let Some(ledger) = &self.kept.ledger {
            ledger.watching(self.clock.store_now_ms());
        }
        Ok(events)
    }

    async fn fold_all(&self, mut events: mpsc::Receiver<Event>, commands: &Commands, look: &Notify) {
        let mut batch = Vec::with_capacity(BATCH);
        while events.recv_many(&mut batch, BATCH).await > 0 {
            let now = self.clock.now();
            if let Some(recorder) = &self.kept.recorder {
                batch.iter().for_each(|event| recorder.heard(event, now));
            }
            if let Some(ledger) = &self.kept.ledger {
                let at_ms = self.clock.store_now_ms();
                batch.iter().for_each(|event| ledger.heard(event, at_ms));
            }
            let mut view = self.view_mut();
            let wanted: Vec<Wanted> = batch.drain(..).map(|event| view.apply(event, now)).collect();
            drop(view);
            for wanted in wanted {
                match wanted {
                    Wanted::Nothing => {}
                    Wanted::FullReport(node, incarnation) => commands.report_all(node, incarnation),
                    Wanted::Runs => look.notify_one(),
                }
            }
        }
    }

    async fn beat(&self, posted: &mut [Option<(Run, Epoch)>]) -> Result<(), StoreError> {
        // A part of the store may be away; no other part waits for it.
        let known = async {
            self.learn_runs().await?;
            self.post_epochs(posted).await
        };
        let known = known.await;
        let enlisted = self.store.enlist(self.entry.clone(), ENLISTED_MS).await;
        self.metrics.store_called("enlist", &enlisted);
        enlisted?;
        self.learn_time().await?;
        self.learn_identity().await?;
        known
    }

    async fn learn_time(&self) -> Result<(), StoreError> {
        let asked = self.clock.now();
        let store_ms = self.store.now_ms().await;
        self.metrics.store_called("now", &store_ms);
        self.clock.learn_store(store_ms?, asked);
        Ok(())
    }

    async fn learn_runs(&self) -> Result<(), StoreError> {
        let runs = self.store.runs().await;
        self.metrics.store_called("runs", &runs);
        let runs = runs?;
        let now = self.clock.now();
        let mut view = self.view_mut();
        view.grace.see_replaced(self.store.replaced_ms());
        let new = (0..BUCKETS).zip(&runs).filter(|(bucket, run)| view.see_run(*bucket, run, now)).count();
        let grace_ms = view.longest_grace_left_ms(now);
        drop(view);
        if new > 0 {
            tracing::info!(
                buckets = new,
                grace_ms,
                "the store is in a new run: unknown rooms wait for the grace to end"
            );
        }
        Ok(())
    }

    /// Which store it is: another one after a wipe.
    async fn learn_identity(&self) -> Result<(), StoreError> {
        let identity = self.store.identity().await;
        self.metrics.store_called("identity", &identity);
        self.set_store_identity(identity?);
        Ok(())
    }

    /// Rule 20: in grace, each bucket's counter is lifted above all epochs that we have seen there.
    async fn post_epochs(&self, posted: &mut [Option<(Run, Epoch)>]) -> Result<(), StoreError> {
        let now = self.clock.now();
        let to_raise = {
            let view = self.view();
            if view.longest_grace_left_ms(now) == 0 { Vec::new() } else { view.to_raise() }
        };
        let is_news = |(bucket, run, epoch): &(u8, Run, Epoch)| {
            posted[usize::from(*bucket)].as_ref().is_none_or(|known| (&known.0, &known.1) != (run, epoch))
        };
        let raise = async |(bucket, run, epoch): (u8, Run, Epoch)| {
            let raised = self.store.raise(Raise { bucket, run: run.clone(), epoch }).await;
            self.metrics.store_called("raise", &raised);
            (bucket, run, epoch, raised)
        };
        // At the same time: the server of one may be away.
        let raised = join_all(to_raise.into_iter().filter(is_news).map(raise)).await;
        let mut trouble = None;
        for (bucket, run, epoch, raised) in raised {
            match raised {
                Ok(_) => posted[usize::from(bucket)] = Some((run, epoch)),
                Err(error) => trouble = Some(error),
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    fn tick(&self) {
        let now = self.clock.now();
        let braked = {
            let mut view = self.view_mut();
            let before = view.brake().holds();
            view.tick(now);
            (before, view.brake().holds())
        };
        match braked {
            (false, true) => tracing::error!(
                "the brake holds: too many nodes fell silent together for that to be theirs; their rooms stay where they \
                 are until it ends, or DELETE /v1/cluster/brake"
            ),
            (true, false) => tracing::warn!("the brake has ended: rooms of silent nodes may go elsewhere"),
            _ => {}
        }
        let (levels, old_reports) = {
            let view = self.view();
            let levels = Levels {
                totals: view.totals(),
                rooms: view.rooms.len(),
                store_up: view.is_listening(),
                grace_left_ms: view.longest_grace_left_ms(now),
                is_braked: view.brake().holds(),
            };
            (levels, view.old_reports())
        };
        self.metrics.show(levels);
        for (reason, count) in self.store.dropped_reports().counts().into_iter().chain([("old", old_reports)]) {
            self.metrics.reports_dropped(reason, count);
        }
        if let Some(recorder) = &self.kept.recorder {
            let view = self.view();
            let lost = view.nodes(None).filter(|(_, node)| view.state(node, now) == NodeState::Lost);
            lost.for_each(|(id, _)| recorder.gone(id, now));
            self.metrics.dropped_from_trace(recorder.take_dropped());
        }
        self.readiness.set("store_up", levels.store_up);
        self.readiness.set("grace_left_ms", levels.grace_left_ms);
        // Once it can answer for living rooms it goes on doing so, whatever becomes of the store.
        if levels.store_up && levels.grace_left_ms == 0 && !self.readiness.is_ready() {
            self.readiness.set_ready(true);
            tracing::info!("ready");
        }
    }
}
