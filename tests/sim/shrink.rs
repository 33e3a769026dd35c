//! Makes a failing run as short as it gets: without the faults, the people and the bad network that it fails without.

use crate::order::Order;
use crate::plan::{Network, Plan, Planned};
use crate::world::{Outcome, run};

/// A smaller plan that breaks the same invariant.
pub(crate) fn shrink(plan: &Plan, invariant: u8) -> Plan {
    let mut best = plan.clone();
    let breaks = |plan: &Plan| run(plan, false).violation.is_some_and(|violation| violation.invariant == invariant);
    loop {
        let Some(smaller) = candidates(&best).into_iter().find(breaks) else { return best };
        best = smaller;
    }
}

/// What happened in a failing run, to be read.
pub(crate) fn describe(plan: &Plan, outcome: &Outcome) -> String {
    let lines = outcome.trace.iter().map(|line| format!("    {line}\n")).collect::<String>();
    let violation = outcome.violation.as_ref();
    format!("{plan:#?}\n{lines}    at {} ms: {violation:?}\n", outcome.at.0)
}

fn candidates(plan: &Plan) -> Vec<Plan> {
    let change = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        plan
    };
    let without = |fault: &Planned| change(&|plan| plan.faults.retain(|other| other != fault));
    let mut all: Vec<Plan> = plan.faults.iter().map(without).collect();
    let without = |order: &Order| change(&|plan| plan.orders.retain(|other| other != order));
    all.extend(plan.orders.iter().map(without));
    let network = plan.network;
    for calmer in [
        Network::default(),
        Network { loss_permille: 0, ..network },
        Network { repeat_permille: 0, ..network },
        Network { slow_permille: 0, slow_ms: 0, ..network },
    ] {
        if calmer != network {
            all.push(change(&|plan| plan.network = calmer));
        }
    }
    if plan.rooms > 1 {
        all.push(change(&|plan| plan.rooms -= 1));
    }
    if plan.clients > 1 {
        all.push(change(&|plan| plan.clients -= 1));
    }
    all
}
