//! `roost explain`: where a lookup would send a room, and why.

use std::fmt::Write as _;
use std::net::IpAddr;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use roost_proto::error::{ReasonCount, Rejection};
use roost_proto::explain::{ExplainReply, ExplainRequest};
use roost_proto::id::{Carrier, NodeId, Region, RoomKey};
use roost_proto::lookup::{Client, LookupRequest, Outcome};

use crate::Answer;
use crate::admin::{Admin, Failure};

/// How many nodes a page of an answer holds at most.
const MOST_PER_PAGE: usize = 1_000;

#[derive(Debug, Args)]
pub(crate) struct Question {
    /// The room; it need not exist.
    #[arg(value_name = "NAMESPACE/ROOM", value_parser = room)]
    room: RoomKey,
    /// Where the client is: cn/east/shanghai.
    #[arg(long)]
    region: Option<Region>,
    /// Who carries the client.
    #[arg(long)]
    carrier: Option<Carrier>,
    /// The client's address, from which the scheduler finds region and carrier.
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    /// How many participants are expected.
    #[arg(long, value_name = "N")]
    expected: Option<u32>,
    /// A node that the room must not go to.
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    avoid: Vec<NodeId>,
    /// How many nodes to show, those that can take the room first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    limit: u32,
}

fn room(text: &str) -> Result<RoomKey, String> {
    let (namespace, room) = text.split_once('/').ok_or("expected NAMESPACE/ROOM, such as default/standup")?;
    RoomKey::new(namespace, room).map_err(|error| error.to_string())
}

impl Question {
    pub(crate) async fn ask(self, admin: &Admin, json: bool) -> Result<Answer, Failure> {
        let reply = self.collect(admin).await?;
        let text = if json {
            let text = serde_json::to_string_pretty(&reply).expect("a reply has string keys only");
            text + "\n"
        } else {
            shown(&reply)
        };
        Ok(Answer { text, yes: reply.outcome.is_some() })
    }

    /// As many pages as it takes, as one reply.
    async fn collect(self, admin: &Admin) -> Result<ExplainReply, Failure> {
        let RoomKey { namespace, room } = self.room;
        let lookup = LookupRequest {
            region: self.region,
            carrier: self.carrier,
            client_ip: self.client_ip,
            expected_participants: self.expected,
            avoid: self.avoid,
            ..LookupRequest::default()
        };
        let body = ExplainRequest { namespace, room, lookup };
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut query = vec![("limit", limit.min(MOST_PER_PAGE).to_string())];
        let mut reply: ExplainReply = admin.post("/v1/explain", &query, &body).await?;
        while let Some(cursor) = reply.next_cursor.take() {
            let left = limit.saturating_sub(reply.candidates.len() + reply.rejections.len());
            if left == 0 {
                reply.next_cursor = Some(cursor);
                break;
            }
            query = vec![("limit", left.min(MOST_PER_PAGE).to_string()), ("cursor", cursor)];
            let page: ExplainReply = admin.post("/v1/explain", &query, &body).await?;
            reply.candidates.extend(page.candidates);
            reply.rejections.extend(page.rejections);
            reply.next_cursor = page.next_cursor;
        }
        Ok(reply)
    }
}

/// The reply as a person reads it.
fn shown(reply: &ExplainReply) -> String {
    let mut text = format!("{}/{}, {}: {}\n", reply.namespace, reply.room, who(&reply.client), verdict(reply));
    if !reply.candidates.is_empty() {
        let _ = write!(text, "\n{}\n", candidates(reply).trim_fmt());
    }
    let refused: u32 = reply.rejection_counts.iter().map(|counted| counted.count).sum();
    if refused > 0 {
        let _ = write!(text, "\n{refused} refused: {}\n", counts(&reply.rejection_counts));
    }
    if !reply.rejections.is_empty() {
        let _ = writeln!(text, "{}", rejections(&reply.rejections).trim_fmt());
    }
    let nodes = u64::from(reply.candidate_count) + u64::from(refused);
    let shown = (reply.candidates.len() + reply.rejections.len()) as u64;
    if shown < nodes {
        let _ = write!(text, "\n{shown} of {nodes} nodes are shown; --limit shows more\n");
    }
    text
}

fn who(client: &Client) -> String {
    let mut who = match &client.region {
        Some(region) => format!("a client in {region}"),
        None => "a client of unknown region".to_owned(),
    };
    match &client.carrier {
        Some(carrier) => who.push_str(&format!(" on {carrier}")),
        None => who.push_str(", carrier unknown"),
    }
    if let Some(ip) = client.ip {
        who.push_str(&format!(" ({ip})"));
    }
    who
}

fn verdict(reply: &ExplainReply) -> String {
    let node = reply.node.as_ref().map_or("", NodeId::as_str);
    match (reply.outcome, reply.code) {
        (Some(Outcome::Placed), _) => {
            let rung = reply.rung.map_or("", |rung| rung.as_str());
            let expected = reply.expected_participants;
            format!("would be placed on {node} ({rung}), counted as {expected} participants until they have come")
        }
        (Some(Outcome::Existing | Outcome::Edge), _) => {
            format!("lives on {node}; others as they would rank if it did not")
        }
        (None, Some(code)) => format!("would be refused with {code}: {}", code.meaning()),
        (None, None) => "would be refused".to_owned(),
    }
}

fn candidates(reply: &ExplainReply) -> Table {
    let mut table = table(&[
        "#", "node", "standing", "rung", "region", "carrier", "priority", "band", "load", "reserved", "spread",
    ]);
    for (rank, candidate) in (1..).zip(&reply.candidates) {
        let region = match candidate.region_missing {
            _ if reply.client.region.is_none() => "-".to_owned(),
            0 => "inside".to_owned(),
            missing => format!("{missing} above"),
        };
        let carrier = match candidate.other_carrier {
            _ if reply.client.carrier.is_none() => "-",
            true => "other",
            false => "own",
        };
        table.add_row([
            rank.to_string(),
            candidate.node.to_string(),
            candidate.standing.as_str().to_owned(),
            candidate.rung.as_str().to_owned(),
            region,
            carrier.to_owned(),
            candidate.priority.to_string(),
            candidate.load_band.to_string(),
            percent(candidate.load_permille),
            percent(candidate.reserved_permille),
            format!("{:.4}", candidate.spread as f64 / u64::MAX as f64),
        ]);
    }
    for numeric in [0, 6, 7, 8, 9, 10] {
        if let Some(column) = table.column_mut(numeric) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn rejections(rejections: &[Rejection]) -> Table {
    let mut table = table(&["node", "reason"]);
    for Rejection { node, reason } in rejections {
        table.add_row([node.as_str(), reason.as_str()]);
    }
    table
}

fn counts(counts: &[ReasonCount]) -> String {
    let counted = counts.iter().map(|counted| format!("{} {}", counted.count, counted.reason.as_str()));
    counted.collect::<Vec<_>>().join(", ")
}

fn percent(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Columns apart by two spaces, and nothing else drawn: lines can be cut with the usual tools.
pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}
