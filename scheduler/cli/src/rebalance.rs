//! `roost rebalance`: which living rooms would go where, and their moves if that is wanted.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use comfy_table::CellAlignment;
use roost_proto::rebalance::{MOST_ROOMS, PARTICIPANTS, ROOMS, RebalanceMove, RebalanceReply, RebalanceRequest};

use crate::Answer;
use crate::admin::{Admin, Failure};
use crate::explain::table;

/// How long the moves may take: eight at once, each at most 8 s.
const MADE_WITHIN: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub(crate) struct Order {
    /// Shows the moves and makes none. This is what happens unless --apply is given.
    #[arg(long, conflicts_with = "apply")]
    dry_run: bool,
    /// Makes the moves: the participants of each room are redirected to its new home.
    #[arg(long)]
    apply: bool,
    /// How many rooms may move at most.
    #[arg(long, value_name = "N", default_value_t = ROOMS, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_ROOMS)))]
    max_rooms: u32,
    /// How many participants may be redirected at most.
    #[arg(long, value_name = "N", default_value_t = PARTICIPANTS)]
    max_participants: u32,
}

impl Order {
    pub(crate) async fn give(self, admin: &Admin, json: bool) -> Result<Answer, Failure> {
        let Self { dry_run: _, apply, max_rooms, max_participants } = self;
        let body = RebalanceRequest { apply, max_rooms, max_participants };
        let reply: RebalanceReply = admin.post_within(MADE_WITHIN, "/v1/rebalance", &[], &body).await?;
        let yes = reply.moves.iter().all(|one| one.failed.is_none());
        let text = if json {
            serde_json::to_string_pretty(&reply).expect("a reply has string keys only") + "\n"
        } else {
            shown(&reply)
        };
        Ok(Answer { text, yes })
    }
}

fn shown(reply: &RebalanceReply) -> String {
    if reply.moves.is_empty() {
        return "nothing to move: the load is even enough\n".to_owned();
    }
    let result = if reply.applied { "result" } else { "" };
    let mut table = table(&["room", "from", "to", "participants", "load from", "load to", result]);
    for one in &reply.moves {
        table.add_row(row(one, reply.applied));
    }
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>();
    let participants: u32 = reply.moves.iter().map(|one| one.participants).sum();
    let made = reply.moves.iter().filter(|one| one.failed.is_none()).count();
    let word = if reply.applied { format!("{made} moved") } else { "proposed; --apply makes the moves".to_owned() };
    writeln!(text, "{} rooms, {participants} participants: {word}", reply.moves.len()).expect("a string takes all");
    text
}

fn row(one: &RebalanceMove, applied: bool) -> [String; 7] {
    let load = |[before, after]: [u32; 2]| format!("{} -> {} %", percent(before), percent(after));
    let result = one.failed.map_or(if applied { "moved" } else { "" }, |code| code.as_str());
    [
        format!("{}/{}", one.namespace, one.room),
        one.from.to_string(),
        one.to.to_string(),
        one.participants.to_string(),
        load(one.from_permille),
        load(one.to_permille),
        result.to_owned(),
    ]
}

fn percent(permille: u32) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

#[cfg(test)]
mod tests {
    use roost_proto::error::Code;
    use roost_proto::id::{NamespaceId, NodeId, RoomName};

    use super::*;

    #[test]
    fn each_move_is_a_line_with_both_loads_and_what_became_of_it() {
        let one = RebalanceMove {
            namespace: NamespaceId::new("default").expect("valid"),
            room: RoomName::new("standup").expect("valid"),
            from: NodeId::new("fra-1").expect("valid"),
            to: NodeId::new("fra-2").expect("valid"),
            participants: 12,
            from_permille: [705, 585],
            to_permille: [100, 220],
            failed: Some(Code::NoNode),
        };
        let applied = RebalanceReply { applied: true, moves: vec![RebalanceMove { failed: None, ..one.clone() }, one] };
        let text = shown(&applied);
        assert!(
            text.contains("default/standup") && text.contains("70.5 -> 58.5 %") && text.contains("no_node"),
            "{text}"
        );
        assert!(text.ends_with("2 rooms, 24 participants: 1 moved\n"), "{text}");
        let proposed = RebalanceReply { applied: false, ..applied };
        assert!(shown(&proposed).ends_with("proposed; --apply makes the moves\n"));
        assert!(shown(&RebalanceReply { applied: false, moves: vec![] }).starts_with("nothing to move"));
    }
}
