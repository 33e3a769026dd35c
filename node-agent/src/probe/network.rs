//! The network interfaces of the agent's own network namespace: what they carried, and how much they can carry.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use roost_agent_core::sample::Traffic;

use super::{number, read};

/// The kernel's number for Ethernet, in `/sys/class/net/NAME/type`.
const ETHERNET: u32 = 1;
/// Speeds that a link can have. Outside of them a driver only says something.
const POSSIBLE_MBPS: std::ops::RangeInclusive<u64> = 10..=1_600_000;
/// How deep interfaces may lie on each other: a bridge on a VLAN on a bond.
const MOST_LAYERS: u8 = 4;

/// What each interface that counts has carried; none if that cannot be read.
///
/// Where there is hardware (or a hypervisor's device), only that counts: bridges, bonds, VLANs, tunnels and the host's
/// ends of containers' links carry the same bytes again. Else, in a container, every Ethernet interface counts that
/// belongs to no other (a bridge's or bond's member) and lies on no other. Loopback never counts.
pub(crate) fn traffic(root: &Path) -> Option<BTreeMap<String, Traffic>> {
    let mut all: BTreeMap<String, Traffic> = interfaces(&fs::read_to_string(root.join("proc/net/dev")).ok()?)?;
    let folder = |name: &str| root.join("sys/class/net").join(name);
    // Where they are not shown in /sys, or another namespace's are, nothing more is known of them.
    if all.keys().any(|name| folder(name).exists()) {
        if all.keys().any(|name| is_hardware(&folder(name))) {
            all.retain(|name, _| is_hardware(&folder(name)));
        } else {
            all.retain(|name, _| stands_alone(&folder(name)));
        }
    }
    Some(all)
}

/// The speed of the interface that the default route leads through, in Mbit/s; none if no link that is known carries it.
pub(crate) fn link_mbps(root: &Path) -> Option<u64> {
    let (v4, v6) = (read(&root.join("proc/net/route")), read(&root.join("proc/net/ipv6_route")));
    let name = default_route(&v4).or_else(|| default_route_v6(&v6))?;
    speed(&root.join("sys/class/net").join(name), MOST_LAYERS)
}

/// The interfaces but loopback, by name. None if one has no numbers.
fn interfaces(dev: &str) -> Option<BTreeMap<String, Traffic>> {
    let rows = dev.lines().filter_map(|line| line.split_once(':'));
    rows.map(|(name, counters)| (name.trim(), counters)).filter(|(name, _)| *name != "lo").map(interface).collect()
}

fn interface((name, counters): (&str, &str)) -> Option<(String, Traffic)> {
    let mut counters = counters.split_whitespace();
    let mut counter = |index| counters.nth(index)?.parse().ok();
    Some((name.to_owned(), Traffic { rx_bytes: counter(0)?, tx_bytes: counter(7)? }))
}

fn is_hardware(folder: &Path) -> bool {
    folder.join("device").exists()
}

fn stands_alone(folder: &Path) -> bool {
    number(&folder.join("type")) == Some(ETHERNET) && !folder.join("master").exists() && below(folder).is_empty()
}

/// The interfaces that this one lies on.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"lower_"))
        .map(|entry| entry.path())
        .collect()
}

/// Only hardware and bonds know their speed; of others it is the fastest one below. Virtual links say made-up numbers.
fn speed(folder: &Path, layers: u8) -> Option<u64> {
    if is_hardware(folder) || folder.join("bonding").exists() {
        return number(&folder.join("speed")).filter(|mbps| POSSIBLE_MBPS.contains(mbps));
    }
    let layers = layers.checked_sub(1)?;
    below(folder).iter().filter_map(|folder| speed(folder, layers)).max()
}

/// The interface of the default route with the smallest metric: `iface destination gateway flags … metric mask …`.
fn default_route(table: &str) -> Option<&str> {
    let routes = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [name, destination, _, _, _, _, metric, mask, ..] = fields[..] else { return None };
        let is_default = destination == "00000000" && mask == "00000000";
        is_default.then_some((metric.parse::<u32>().ok()?, name))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, name)| name)
}

/// The same of IPv6: `destination length … metric references uses flags iface`, all but the name hexadecimal.
fn default_route_v6(table: &str) -> Option<&str> {
    let routes = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [destination, length, _, _, _, metric, _, _, _, name] = fields[..] else { return None };
        let is_default = length == "00" && destination.bytes().all(|digit| digit == b'0') && name != "lo";
        is_default.then_some((u32::from_str_radix(metric, 16).ok()?, name))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::super::Fixture;
    use super::*;

    const ROUTE: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        wlan0\t00000000\t010200C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    fn hardware_alone_counts_where_there_is_any() {
        let fixture = machine(&["lo", "eth0", "eth1", "bond0", "br0", "veth7", "tun0"]);
        for (name, link) in [("eth0", "device"), ("eth1", "device"), ("eth0", "master"), ("veth7", "master")] {
            fixture.write(&format!("sys/class/net/{name}/{link}/x"), "");
        }
        assert_eq!(counted(&fixture), ["eth0", "eth1"]);
    }

    #[test]
    fn in_a_container_its_own_end_of_each_link_counts() {
        let fixture = machine(&["lo", "eth0", "br0", "member", "vlan", "tun0"]);
        for (name, link) in [("br0", "lower_member"), ("member", "master"), ("vlan", "lower_eth0")] {
            fixture.write(&format!("sys/class/net/{name}/{link}/x"), "");
        }
        fixture.write("sys/class/net/tun0/type", "65534\n");
        assert_eq!(counted(&fixture), ["eth0"]);
    }

    #[test]
    fn where_sys_shows_another_namespace_all_but_loopback_count() {
        let fixture =
            Fixture::new(&[("proc/net/dev", &dev(&["lo", "eth0", "eth1"])), ("sys/class/net/wlan9/type", "1")]);
        assert_eq!(counted(&fixture), ["eth0", "eth1"]);
        assert_eq!(traffic(fixture.root()).expect("there")["eth0"], Traffic { rx_bytes: 100, tx_bytes: 200 });
    }

    #[test]
    fn a_broken_counter_makes_the_whole_unknown() {
        for broken in ["eth0: x 0 0 0 0 0 0 0 5 0", "eth0: 1 2", "eth0: -1 0 0 0 0 0 0 0 5 0"] {
            assert_eq!(interfaces(broken), None, "{broken}");
        }
        assert_eq!(traffic(Fixture::new(&[]).root()), None);
    }

    #[test]
    fn the_link_of_the_default_route_gives_the_speed() {
        let fixture = Fixture::new(&[("proc/net/route", ROUTE)]);
        assert_eq!(link_mbps(fixture.root()), None, "nothing is known of eth0");
        for (speed, expected) in
            [("1000", Some(1_000)), ("-1", None), ("0", None), ("1", None), ("4294967295", None), ("x", None)]
        {
            fixture.write("sys/class/net/eth0/speed", speed);
            assert_eq!(link_mbps(fixture.root()), None, "{speed}: a virtual link's is made up");
            fixture.write("sys/class/net/eth0/device/x", "");
            assert_eq!(link_mbps(fixture.root()), expected, "{speed}");
            fs::remove_dir_all(fixture.root().join("sys")).expect("it is there");
        }
    }

    #[test]
    fn the_speed_of_a_bridge_or_vlan_is_that_of_the_link_below() {
        let fixture = Fixture::new(&[
            ("proc/net/route", ""),
            (
                "proc/net/ipv6_route",
                "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 br0\n\
                 00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n",
            ),
            ("sys/class/net/br0/speed", "77"),
            ("sys/class/net/br0/lower_veth/speed", "10000"),
            ("sys/class/net/br0/lower_bond/bonding/x", ""),
            ("sys/class/net/br0/lower_bond/speed", "2000"),
        ]);
        assert_eq!(link_mbps(fixture.root()), Some(2_000));
    }

    fn counted(fixture: &Fixture) -> Vec<String> {
        traffic(fixture.root()).expect("readable").into_keys().collect()
    }

    /// One with these interfaces, all of them virtual Ethernet.
    fn machine(names: &[&str]) -> Fixture {
        let fixture = Fixture::new(&[("proc/net/dev", &dev(names))]);
        for name in names {
            fixture.write(&format!("sys/class/net/{name}/type"), if *name == "lo" { "772" } else { "1" });
        }
        fixture
    }

    fn dev(names: &[&str]) -> String {
        let rows = names.iter().map(|name| format!("  {name}: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n"));
        format!("Inter-|   Receive      |  Transmit\n face |bytes packets |bytes packets\n{}", rows.collect::<String>())
    }
}
