//! The bench's figures as a table, and the ratios that count.

use crate::Side;
use crate::load::Measured;

/// Prints all sides, then the ratios against what they should be.
pub(crate) fn print(living: &mut [Side; 2], first: &mut [Side; 2]) {
    println!(
        "{:<24} {:>9} {:>8} {:>8} {:>13} {:>13}",
        "", "req/s", "p50 µs", "p99 µs", "server µs/req", "Redis µs/req"
    );
    for side in living.iter_mut().chain(first.iter_mut()) {
        let mut all = Measured::default();
        for round in &side.rounds {
            all.latencies_us.extend(&round.latencies_us);
        }
        let (p50, p99) = (all.quantile_us(0.50), all.quantile_us(0.99));
        let (server, redis) = (per_request(side, side.cpu_us), per_request(side, side.redis_cpu_us));
        println!("{:<24} {:>9.0} {p50:>8} {p99:>8} {server:>13.2} {redis:>13.2}", side.name, rate(side));
    }
    println!();
    let cpu = |side: &Side| per_request(side, side.cpu_us);
    let redis = |side: &Side| per_request(side, side.redis_cpu_us);
    ratio("living room: rate", rates(living), "≥ 0.85");
    ratio("living room: server CPU", cpu(&living[1]) / cpu(&living[0]), "≤ 1.4");
    ratio("first assignment: rate", rates(first), "≥ 0.8");
    ratio("first assignment: server CPU", cpu(&first[1]) / cpu(&first[0]), "≤ 1.5");
    ratio("first assignment: Redis CPU", redis(&first[1]) / redis(&first[0]), "≤ 1.2");
}

fn ratio(name: &str, value: f64, goal: &str) {
    println!("{name:<30} {value:>6.2}   goal {goal}");
}

/// The median over the rounds of one rate against the other: what slows the machine down for a while slows down both.
fn rates([bare, roost]: &[Side; 2]) -> f64 {
    median(bare.rounds.iter().zip(&roost.rounds).map(|(bare, roost)| roost.rate() / bare.rate()).collect())
}

fn rate(side: &Side) -> f64 {
    median(side.rounds.iter().map(Measured::rate).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn per_request(side: &Side, used_us: u64) -> f64 {
    let requests: usize = side.rounds.iter().map(|round| round.latencies_us.len()).sum();
    used_us as f64 / requests.max(1) as f64
}
