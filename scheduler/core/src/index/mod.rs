//! All nodes by what a placement asks for, so that it looks at few of them, however many there are.
//!
//! A node stands on one shelf for each pair of what it serves (a namespace, or all) and what carries its clients (a carrier,
//! or all; and any), in its region and in each region around it, up to the whole world.

mod reach;
mod ring;
mod shelf;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use roost_proto::error::Reason;
use roost_proto::explain::Standing;
use roost_proto::id::{Carrier, NamespaceId};
use roost_proto::report::Description;

pub use reach::{Condition, Reached, Tally, conditions, outermost};
pub use ring::{Place, Points};
pub use shelf::{Found, Shelf};

/// The number of a node among all that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// What of a node's rank is the same for all requests; the smallest is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    pub standing: Standing,
    pub priority: Reverse<i32>,
    pub load_band: u8,
}

impl Rank {
    const fn first(standing: Standing) -> Self {
        Self { standing, priority: Reverse(i32::MAX), load_band: 0 }
    }

    const fn last(standing: Standing) -> Self {
        Self { standing, priority: Reverse(i32::MIN), load_band: u8::MAX }
    }
}

/// Where a node stands on each of its shelves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Berth {
    pub place: Place,
    /// Or why it takes no new room from anyone.
    pub rank: Result<Rank, Reason>,
}

/// The shelves, by region; the whole world has the empty name.
#[derive(Debug, Clone, Default)]
pub struct Index {
    areas: BTreeMap<Box<str>, Area>,
}

/// By namespace.
type Area = Split<NamespaceId, Pool>;

/// By carrier.
#[derive(Debug, Clone, Default)]
struct Pool {
    any: Shelf,
    carriers: Split<Carrier, Shelf>,
}

/// What is for all keys, and what is for one key only.
#[derive(Debug, Clone)]
struct Split<K, T> {
    all: T,
    own: BTreeMap<K, T>,
}

impl<K, T: Default> Default for Split<K, T> {
    fn default() -> Self {
        Self { all: T::default(), own: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, T: Default> Split<K, T> {
    /// What bears on the key.
    fn serving<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a T> + use<'a, K, T> {
        std::iter::once(&self.all).chain(self.own.get(key))
    }

    /// Those of a node that names `keys`; none stands for all.
    fn each(&mut self, keys: &[K], mut act: impl FnMut(&mut T)) {
        if keys.is_empty() {
            act(&mut self.all);
        }
        for key in keys {
            act(self.own.entry(key.clone()).or_default());
        }
    }
}

impl Index {
    /// Puts a node on its shelves.
    pub fn put(&mut self, description: &Description, berth: &Berth) {
        self.each_shelf(description, |shelf| shelf.put(berth));
    }

    /// Takes a node that was put there as `berth` off its shelves.
    pub fn take(&mut self, description: &Description, berth: &Berth) {
        self.each_shelf(description, |shelf| shelf.take(berth));
        self.prune(description);
    }

    /// A node stands elsewhere on the same shelves.
    pub fn shift(&mut self, description: &Description, from: &Berth, to: &Berth) {
        self.each_shelf(description, |shelf| {
            shelf.take(from);
            shelf.put(to);
        });
    }

    fn each_shelf(&mut self, description: &Description, mut act: impl FnMut(&mut Shelf)) {
        for name in around(description.region.as_str()) {
            if !self.areas.contains_key(name) {
                self.areas.insert(name.into(), Area::default());
            }
            let Some(area) = self.areas.get_mut(name) else { continue };
            area.each(&description.namespaces, |pool| {
                act(&mut pool.any);
                pool.carriers.each(&description.carriers, &mut act);
            });
        }
    }

    /// Forgets shelves that the node was the last on.
    fn prune(&mut self, description: &Description) {
        let is_bare = |pool: &Pool| pool.any.is_empty();
        for name in around(description.region.as_str()) {
            let Some(area) = self.areas.get_mut(name) else { continue };
            area.each(&description.namespaces, |pool| pool.carriers.own.retain(|_, shelf| !shelf.is_empty()));
            area.own.retain(|_, pool| !is_bare(pool));
            if is_bare(&area.all) && area.own.is_empty() {
                self.areas.remove(name);
            }
        }
    }

    /// The shelves of nodes in the region `area` that serve the namespace and, if one is named, the carrier. No node is on
    /// two of them.
    pub fn shelves<'a>(
        &'a self,
        area: &str,
        namespace: &NamespaceId,
        carrier: Option<&'a Carrier>,
    ) -> impl Iterator<Item = &'a Shelf> + use<'a> {
        let pools = self.areas.get(area).map(|area| area.serving(namespace));
        pools.into_iter().flatten().flat_map(move |pool| {
            let any = carrier.is_none().then_some(&pool.any);
            any.into_iter().chain(carrier.map(|carrier| pool.carriers.serving(carrier)).into_iter().flatten())
        })
    }
}

/// The region and those around it, from the nearest to the whole world.
fn around(region: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(region), |inner| {
        (!inner.is_empty()).then(|| inner.rsplit_once('/').map_or("", |(outer, _)| outer))
    })
}
