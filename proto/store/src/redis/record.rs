//! A claim as one line of text, so that comparing the whole record is comparing two strings (rule 3):
//! `run epoch state node incarnation`, the state `g` (granted) or `o` (open).

use roost_proto::id::{Epoch, Incarnation, NUMBER_LIMIT, NodeId};
use roost_proto::room::{Claim, ClaimState, Run};

use crate::error::StoreError;
use crate::operation::Holding;

/// How many words a record has.
pub(super) const WORDS: usize = 5;

/// The record of a claim.
pub(super) fn of_claim(claim: &Claim) -> String {
    line(&claim.run, claim.epoch, claim.state, &claim.node, claim.incarnation)
}

/// The record that a holding has in `state`.
pub(super) fn of_holding(holding: &Holding, state: ClaimState) -> String {
    line(&holding.run, holding.epoch, state, &holding.node, holding.incarnation)
}

/// What follows the epoch in a record, with the space before it.
pub(super) fn ending(state: ClaimState, node: &NodeId, incarnation: Incarnation) -> String {
    format!(" {} {node} {incarnation}", letter(state))
}

/// The claim in `text`, if it is one of the given run; an empty text is none.
pub(super) fn current(key: &str, text: &str, run: &str) -> Result<Option<Claim>, StoreError> {
    let claim = if text.is_empty() { None } else { Some(parse(key, text)?) };
    Ok(claim.filter(|claim| &*claim.run.0 == run))
}

/// The claim that `text` is.
pub(super) fn parse(key: &str, text: &str) -> Result<Claim, StoreError> {
    let broken = || StoreError::Corrupt { key: key.to_owned(), reason: format!("no claim: {text:.200}") };
    let mut words = text.split(' ');
    let mut word = || words.next().ok_or_else(broken);
    let claim = Claim {
        run: Run(word()?.into()),
        epoch: Epoch(word()?.parse().ok().filter(|epoch| *epoch < NUMBER_LIMIT).ok_or_else(broken)?),
        state: match word()? {
            "g" => ClaimState::Granted,
            "o" => ClaimState::Open,
            _ => return Err(broken()),
        },
        node: NodeId::new(word()?).map_err(|_| broken())?,
        incarnation: Incarnation(word()?.parse().map_err(|_| broken())?),
    };
    if words.next().is_some() { Err(broken()) } else { Ok(claim) }
}

fn line(run: &Run, epoch: Epoch, state: ClaimState, node: &NodeId, incarnation: Incarnation) -> String {
    format!("{} {epoch} {} {node} {incarnation}", run.0, letter(state))
}

fn letter(state: ClaimState) -> char {
    match state {
        ClaimState::Granted => 'g',
        ClaimState::Open => 'o',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let claim = Claim {
            run: Run("9f3a".into()),
            epoch: Epoch(1_790_000_000_007),
            state: ClaimState::Open,
            node: NodeId::new("fra-1").expect("valid"),
            incarnation: Incarnation(4),
        };
        let text = of_claim(&claim);
        assert_eq!(text, "9f3a 1790000000007 o fra-1 4");
        assert_eq!(parse("key", &text).expect("a record"), claim);
        assert_eq!(current("key", &text, "9f3a").expect("a record"), Some(claim));
        assert_eq!(current("key", &text, "other").expect("a record"), None);
        assert_eq!(current("key", "", "9f3a").expect("no record"), None);
    }

    #[test]
    fn a_broken_record_names_its_key() {
        let huge = format!("r {} g fra-1 4", u64::MAX);
        for text in ["x", "r 1 g fra-1", "r 1 g fra-1 4 5", "r -1 g fra-1 4", "r 1 x fra-1 4", "r 1 g FRA 4", &huge] {
            let error = parse("roost:{b1}:room:a/b", text).expect_err(text);
            assert!(matches!(&error, StoreError::Corrupt { key, .. } if key == "roost:{b1}:room:a/b"), "{error}");
        }
    }
}
