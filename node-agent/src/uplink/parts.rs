//! Each of the store's buckets goes its own way: one that cannot be reached holds up no other.

use std::collections::BTreeSet;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::pace::Pace;

/// Works on those buckets that `due` names, for ever; `due` is asked when `wanted` tells, and when a bucket is done.
/// `work` does once what there is to do in a bucket, and says whether nothing is left; if not, it is called again after a pause.
pub(crate) async fn each_apart<Done: Future<Output = bool>>(
    wanted: &Notify,
    due: impl Fn() -> BTreeSet<u8>,
    work: impl Fn(u8) -> Done,
) {
    let (mut busy, mut at_work) = (BTreeSet::new(), FuturesUnordered::new());
    let work = &work;
    loop {
        for bucket in due() {
            if busy.insert(bucket) {
                at_work.push(async move {
                    let mut pace = Pace::default();
                    while !work(bucket).await {
                        sleep(pace.next()).await;
                    }
                    bucket
                });
            }
        }
        tokio::select! {
            Some(bucket) = at_work.next() => drop(busy.remove(&bucket)),
            () = wanted.notified() => {}
        }
    }
}
