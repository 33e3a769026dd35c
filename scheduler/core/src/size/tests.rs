//! What is learned of sizes, and what no hint, however wrong, may do to it.

use super::*;
use crate::sample::room;
use proptest::prelude::*;
use roost_proto::hash::stable_hash;

const NOW: Millis = Millis(1_000_000);

#[test]
fn where_nothing_is_known_four_are_expected() {
    assert_eq!(expected(&Sizes::default(), "x", 0), 4);
}

#[test]
fn the_mean_of_settled_rooms_is_learned_at_once_and_forgotten_with_them() {
    let (mut sizes, space) = learned(&[15; 300]);
    assert_eq!(expected(&sizes, "x", 0), 15);
    for _ in 0..300 {
        sizes.learn(space, Lesson::Settled { size: 15 }, Lesson::Nothing);
    }
    assert_eq!(expected(&sizes, "x", 0), 4);
}

#[test]
fn rooms_that_fill_teach_by_how_fast_they_do() {
    // After a tenth of the time a tenth of the participants beyond the first has come.
    let mut sizes = Sizes::default();
    let space = sizes.space(&mut room("x").namespace);
    let since = NOW.minus(FILL_MS / 10);
    for _ in 0..1_000 {
        sizes.learn(space, Lesson::Nothing, Lesson::Filling { since, size: 3 });
    }
    assert!((20..=21).contains(&expected(&sizes, "x", 0)), "{}", expected(&sizes, "x", 0));
    for _ in 0..1_000 {
        sizes.learn(space, Lesson::Filling { since, size: 3 }, Lesson::Settled { size: 3 });
    }
    assert_eq!(expected(&sizes, "x", 0), 3, "these were all that came");
}

#[test]
fn rooms_that_ended_are_remembered_and_empty_ones_teach_nothing() {
    let (mut sizes, space) = learned(&[]);
    for i in 0..1_000 {
        sizes.learn_end(space, &room(&format!("old-{i}")), 2);
        sizes.learn_end(space, &room(&format!("empty-{i}")), 0);
    }
    assert_eq!(expected(&sizes, "x", 0), 2);
    for i in 0..4_000 {
        sizes.learn_end(space, &room(&format!("new-{i}")), 30);
    }
    assert_eq!(expected(&sizes, "x", 0), 30, "the older ones fade");
}

#[test]
fn a_room_that_recurs_is_expected_near_its_last_size() {
    let (mut sizes, space) = learned(&[10; 200]);
    sizes.learn_end(space, &room("town-hall"), 300);
    let again = expected(&sizes, "town-hall", 0);
    assert!((100..300).contains(&again), "{again}");
    assert_eq!(expected(&sizes, "another", 0), 11);
    assert!(expected(&sizes, "town-hall", 20) < again, "a hint is heard beside that");
}

#[test]
fn hints_are_believed_as_far_as_they_proved_right() {
    type Case = (&'static str, fn(u64) -> f64, fn(u64) -> f64, [u16; 2]);
    let rows: [Case; 5] = [
        ("exact hints of rooms that differ widely", |n| 2.0 + 1.5 * normal(n, 1), |_| 0.0, [93, 107]),
        ("always twice as much", |n| 2.0 + normal(n, 1), |_| 0.69, [40, 60]),
        ("a third of it", |n| 3.0 + normal(n, 1), |_| -1.1, [230, 320]),
        ("half off", |n| 2.0 + 0.83 * normal(n, 1), |n| 0.5 * normal(n, 2), [50, 80]),
        ("noise about rooms of one size", |_| 2.0, |n| 1.0 * normal(n, 2), [7, 13]),
    ];
    for (name, log_size, log_error, [least, most]) in rows {
        let (mut sizes, space) = learned(&[]);
        for n in 0..2_000 {
            let size = log_size(n).exp().round().clamp(1.0, 9_999.0);
            let hint = (size.ln() + log_error(n)).exp().round().clamp(1.0, 9_999.0);
            let (size, hint) = (size as u16, hint as u16);
            sizes.learn_hint(space, hint);
            sizes.learn_error(space, hint, size);
            sizes.learn_end(space, &room(&n.to_string()), size);
        }
        let got = expected(&sizes, "x", 100);
        assert!((least..=most).contains(&got), "{name}: {got}");
    }
}

#[test]
fn before_any_room_has_settled_the_spread_of_hints_tells_how_far_they_are_believed() {
    let hinted = |deviation: f64| {
        let (mut sizes, space) = learned(&[15; 300]);
        for n in 0..500 {
            sizes.learn_hint(space, (15.0 * (deviation * normal(n, 1) - 0.35).exp()).round().max(1.0) as u16);
        }
        expected(&sizes, "x", 100)
    };
    let (near, far) = (hinted(0.88), hinted(1.3));
    assert!((60..=95).contains(&near) && (25..=50).contains(&far), "{near} {far}");
}

#[test]
fn namespaces_are_learned_apart_up_to_a_limit_and_names_too() {
    let mut sizes = Sizes::default();
    for i in 0..=MOST_NAMESPACES {
        let space = sizes.space(&mut NamespaceId::new(format!("n{i}")).unwrap());
        assert_eq!(usize::from(space), if i < MOST_NAMESPACES { i + 1 } else { 0 });
    }
    assert_eq!(sizes.space(&mut NamespaceId::new("n7").unwrap()), 8, "a known one stays");
    for i in 0..MOST_RECURRING + 10 {
        sizes.learn_end(1, &room(&i.to_string()), 9);
    }
    let recurring = &sizes.recurring;
    assert_eq!((recurring.sizes.len(), recurring.by_age.len()), (MOST_RECURRING, MOST_RECURRING));
    assert!(recurring.last(name_hash(&room("9"))).is_none() && recurring.last(name_hash(&room("10"))).is_some());
}

proptest! {
    /// Whatever was learned, and whatever the hint: somebody is expected, and not more than may be.
    #[test]
    fn an_expectation_is_a_number_within_bounds(
        lessons in proptest::collection::vec((number(), number(), 0_u8..4), 0..60),
        hint in prop_oneof![Just(0), Just(1), Just(10_000), Just(u32::MAX), any::<u32>()],
        now in any::<u64>(),
    ) {
        let (mut sizes, space) = learned(&[]);
        for (n, (hint, size, kind)) in lessons.into_iter().enumerate() {
            sizes.learn_hint(space, clamped(hint));
            let size = size.min(u16::MAX.into()) as u16;
            match kind {
                0 => sizes.learn(space, Lesson::Nothing, Lesson::Settled { size: size.max(1) }),
                1 => sizes.learn(space, Lesson::Nothing, Lesson::Filling { since: Millis(now / 2), size: size.max(1) }),
                2 => sizes.learn_end(space, &room(&(n % 9).to_string()), size),
                _ => sizes.learn_error(space, clamped(hint), size),
            }
        }
        for name in ["3", "other"] {
            let got = sizes.expected(&room(name), hint, Millis(now));
            prop_assert!((1..=MOST_EXPECTED).contains(&u32::from(got)), "{got}");
        }
    }
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(10_000), Just(u32::MAX), 0_u32..100]
}

/// Sizes of the namespace `default`, in which there are settled rooms of these.
fn learned(rooms: &[u16]) -> (Sizes, u16) {
    let mut sizes = Sizes::default();
    let space = sizes.space(&mut room("x").namespace);
    for size in rooms {
        sizes.learn(space, Lesson::Nothing, Lesson::Settled { size: *size });
    }
    (sizes, space)
}

fn expected(sizes: &Sizes, name: &str, hint: u32) -> u16 {
    sizes.expected(&room(name), hint, NOW)
}

/// The `n`th draw of a standard normal variable (Box and Muller).
fn normal(n: u64, variable: u64) -> f64 {
    let uniform = |part: u64| {
        (stable_hash(&[&[part as u8, variable as u8], &n.to_be_bytes()]) >> 11) as f64 / (1_u64 << 53) as f64
    };
    (-2.0 * (uniform(0) + 1e-12).ln()).sqrt() * (std::f64::consts::TAU * uniform(1)).cos()
}
