//! How far a request reaches: what it asks for, in the order of its ladder, and how many nodes it comes to.

use std::ops::{Add, Sub};

use roost_proto::error::Reason;
use roost_proto::id::{Carrier, Region};
use roost_proto::policy::Rung;

use super::{Index, Shelf, around};
use crate::request::Request;

/// Where, and on whose network, nodes are asked for. Those of an earlier condition come before those of a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition<'a> {
    pub rung: Rung,
    /// How many labels of the client's region `area` lacks.
    pub missing: usize,
    /// A region, or the whole world, which has the empty name. Nearer nodes in it were asked for before.
    pub area: &'a str,
    /// None: any.
    pub carrier: Option<&'a Carrier>,
}

/// What the request asks for, one after the other; nothing twice.
///
/// The first condition that some node meets has the request's best rung, region and carrier, and so has each node that
/// meets it: one that had better ones would have met a condition before.
pub fn conditions<'a>(request: &Request<'a>) -> impl Iterator<Item = Condition<'a>> + use<'a> {
    let (region, carrier) = (request.region, request.carrier);
    let all = request.policy.ladder.rungs().iter().flat_map(move |rung| {
        let any = (carrier.is_none() || !rung.wants_carrier()).then_some(None);
        areas(*rung, region).flat_map(move |(missing, area)| {
            let carriers = carrier.map(Some).into_iter().chain(any);
            carriers.map(move |carrier| Condition { rung: *rung, missing, area, carrier })
        })
    });
    // In how many areas, from the client's region outward, its own carrier was asked for, and any.
    let (mut own, mut any) = (0, 0);
    all.filter(move |condition| {
        let is_own = condition.carrier.is_some();
        let is_new = condition.missing >= any && (!is_own || condition.missing >= own);
        if is_new {
            *(if is_own { &mut own } else { &mut any }) = condition.missing + 1;
        }
        is_new
    })
}

/// How far out the request's ladder goes on any carrier, and on the client's own. Who meets neither is not on it.
pub fn outermost<'a>(request: &Request<'a>) -> [Option<Condition<'a>>; 2] {
    conditions(request).fold([None, None], |[any, own], condition| match condition.carrier {
        None => [Some(condition), own],
        Some(_) => [any, Some(condition)],
    })
}

/// The areas of a rung, the nearest first, each with how many of the region's labels it lacks.
fn areas(rung: Rung, region: Option<&Region>) -> impl Iterator<Item = (usize, &str)> {
    let most = match rung {
        Rung::RegionCarrier | Rung::Region => 1,
        Rung::ParentCarrier | Rung::Parent => 2,
        Rung::Anywhere => usize::MAX,
    };
    // The world is the parent of nobody.
    around(region.map_or("", Region::as_str))
        .enumerate()
        .take(most)
        .take_while(move |(missing, area)| *missing == 0 || rung == Rung::Anywhere || !area.is_empty())
}

/// What of the area is inside the fence.
fn inside<'a>(area: &'a str, fence: &'a [Region]) -> impl Iterator<Item = &'a str> {
    let unfenced = fence.is_empty().then_some(area);
    let fenced = fence.iter().map(Region::as_str).filter_map(move |part| {
        let common = if is_within(area, part) { area } else { part };
        is_within(common, area).then_some(common)
    });
    unfenced.into_iter().chain(fenced)
}

/// Whether the region is `outer`, or lies in it.
fn is_within(region: &str, outer: &str) -> bool {
    outer.is_empty() || region.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How many nodes there are of a kind, and how many of them take no new room from anyone, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub nodes: u32,
    pub blocked: [u32; Reason::ALL.len()],
}

impl Tally {
    fn count<'a>(shelves: impl Iterator<Item = &'a Shelf>) -> Self {
        shelves.fold(Self::default(), |mut tally, shelf| {
            tally.nodes += shelf.nodes();
            for (reason, slots) in shelf.blocked() {
                tally.blocked[reason as usize] += slots.len() as u32;
            }
            tally
        })
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let blocked = std::array::from_fn(|reason| self.blocked[reason] + other.blocked[reason]);
        Self { nodes: self.nodes + other.nodes, blocked }
    }
}

impl Sub for Tally {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let blocked = std::array::from_fn(|reason| self.blocked[reason] - other.blocked[reason]);
        Self { nodes: self.nodes - other.nodes, blocked }
    }
}

/// How many nodes each of a request's constraints leaves; each counts those that the one before has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    pub serving_namespace: u32,
    pub inside_fence: u32,
    /// On the ladder, if their carrier does not count.
    pub near: u32,
    pub on_ladder: Tally,
}

impl Index {
    /// The shelves of nodes that meet the condition. No node is on two of them, for no two parts of
    /// a fence have anything in common.
    pub fn meeting<'a>(
        &'a self,
        request: &Request<'a>,
        condition: Condition<'a>,
    ) -> impl Iterator<Item = &'a Shelf> + use<'a> {
        let namespace = &request.key.namespace;
        inside(condition.area, &request.policy.fence)
            .flat_map(move |area| self.shelves(area, namespace, condition.carrier))
    }

    /// Counts the nodes that the request reaches.
    #[must_use]
    pub fn reached(&self, request: &Request<'_>) -> Reached {
        let count = |area, carrier| {
            let condition = Condition { rung: Rung::Anywhere, missing: 0, area, carrier };
            Tally::count(self.meeting(request, condition))
        };
        let (near, on_ladder) = match outermost(request) {
            // Farther out than on any carrier, nodes are on the ladder on the client's own.
            [Some(any), Some(own)] if own.missing > any.missing => {
                let twice = count(any.area, own.carrier);
                (count(own.area, None), count(any.area, None) + count(own.area, own.carrier) - twice)
            }
            [Some(any), _] => (count(any.area, None), count(any.area, None)),
            [None, Some(own)] => (count(own.area, None), count(own.area, own.carrier)),
            [None, None] => Default::default(),
        };
        Reached {
            serving_namespace: Tally::count(self.shelves("", &request.key.namespace, None)).nodes,
            inside_fence: count("", None).nodes,
            near: near.nodes,
            on_ladder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use roost_proto::policy::{Ladder, Policy};

    #[test]
    fn a_full_ladder_asks_for_each_area_once_on_its_carrier_and_once_on_any() {
        assert_eq!(
            asked(Ladder::FULL, Some("cn/east/sh"), Some("telecom")),
            [
                "region+carrier 0 cn/east/sh telecom",
                "region 0 cn/east/sh",
                "parent+carrier 1 cn/east telecom",
                "parent 1 cn/east",
                "anywhere 2 cn telecom",
                "anywhere 2 cn",
                "anywhere 3  telecom",
                "anywhere 3 ",
            ]
        );
    }

    #[test]
    fn of_what_is_not_known_of_a_client_everything_is_as_good() {
        assert_eq!(asked(Ladder::FULL, None, None), ["region+carrier 0 "]);
        assert_eq!(asked(Ladder::FULL, None, Some("telecom")), ["region+carrier 0  telecom", "region 0 "]);
        assert_eq!(asked(Ladder::FULL, Some("cn"), None), ["region+carrier 0 cn", "anywhere 1 "]);
    }

    #[test]
    fn a_later_rung_asks_for_what_the_earlier_left_out() {
        use Rung::{Anywhere, Parent, ParentCarrier};
        assert_eq!(
            asked(Ladder::new(&[Rung::Region, ParentCarrier, Anywhere]).unwrap(), Some("cn/east"), Some("telecom")),
            [
                "region 0 cn/east telecom",
                "region 0 cn/east",
                "parent+carrier 1 cn telecom",
                "anywhere 1 cn",
                "anywhere 2  telecom",
                "anywhere 2 ",
            ]
        );
        let parent = Ladder::new(&[Parent]).unwrap();
        assert_eq!(asked(parent, Some("cn"), None), ["parent 0 cn"], "the world is the parent of nobody");
    }

    #[test]
    fn of_an_area_that_is_left_which_lies_in_the_fence() {
        let rows: [(&str, &[&str], &[&str]); 6] = [
            ("cn", &[], &["cn"]),
            ("", &["cn", "eu"], &["cn", "eu"]),
            ("cn/east/sh", &["cn", "eu"], &["cn/east/sh"]),
            ("cn", &["cn/east", "eu", "cn/north"], &["cn/east", "cn/north"]),
            ("cn2", &["cn"], &[]),
            ("eu", &["cn"], &[]),
        ];
        for (area, fence, expected) in rows {
            assert_eq!(inside(area, &regions(fence)).collect::<Vec<_>>(), expected, "{area} {fence:?}");
        }
    }

    fn regions(names: &[&str]) -> Vec<Region> {
        names.iter().map(|name| Region::new(name).unwrap()).collect()
    }

    fn asked(ladder: Ladder, region: Option<&str>, carrier: Option<&str>) -> Vec<String> {
        let key = sample::room("x");
        let policy = Policy { ladder, ..Policy::default() };
        let region = region.map(|name| Region::new(name).unwrap());
        let carrier = carrier.map(|name| Carrier::new(name).unwrap());
        let request = Request { region: region.as_ref(), carrier: carrier.as_ref(), ..Request::new(&key, &policy) };
        let say = |condition: Condition<'_>| {
            let carrier = condition.carrier.map_or(String::new(), |carrier| format!(" {carrier}"));
            format!("{} {} {}{carrier}", condition.rung, condition.missing, condition.area)
        };
        conditions(&request).map(say).collect()
    }
}
