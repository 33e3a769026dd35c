//! One GeoIP database in memory: its reader beside the bytes that it reads, every record of it tried when it is opened.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use geoip2::{ASN, City, Reader};
use serde::Serialize;
use yoke::{Yoke, Yokeable};

/// A larger file is none of ours; the largest that are known have 130 MB.
const MOST_BYTES: u64 = 1 << 30;

/// What a database is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    City,
    Asn,
}

/// What is known of an address. Codes are those of ISO 3166, as the file has them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Known<'a> {
    pub country: Option<&'a str>,
    /// Without the country; the largest first: England, then London.
    pub subdivisions: Vec<&'a str>,
    /// Latitude and longitude in degrees.
    pub point: Option<(f64, f64)>,
    pub asn: Option<u32>,
    pub organisation: Option<&'a str>,
}

/// Why nothing is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Miss {
    /// It is of a private network, of the machine itself, or of a carrier's NAT (RFC 6598): of many places at once.
    Private,
    NotFound,
    /// An IPv6 address in a database of IPv4.
    WrongFamily,
    /// Its record has a field that the reader does not know.
    Unreadable,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    #[error("it has more than {MOST_BYTES} bytes")]
    TooLarge,
    #[error("it is of the type {0:?}")]
    Type(String),
    #[error("it is cut off, broken or no such database at all: {0:?}")]
    Broken(geoip2::Error),
    #[error("it is broken: its reader panicked")]
    Panicked,
    #[error("it is broken: addresses that begin like {0} are longer than addresses are")]
    TooDeep(IpAddr),
    #[error("it is broken at {0}: {1:?}")]
    Record(IpAddr, geoip2::Error),
}

/// A database that is in use.
pub(crate) struct Database {
    reader: Yoke<Layout<'static>, Vec<u8>>,
    /// When it was made, in seconds since 1970.
    pub built_s: u64,
    /// How many different records have a field that the reader does not know.
    pub unreadable: usize,
}

/// The two kinds of files, as their reader knows them.
#[derive(Yokeable)]
enum Layout<'a> {
    City(Reader<'a, City<'a>>),
    Asn(Reader<'a, ASN<'a>>),
}

impl Known<'_> {
    /// The subdivisions as ISO 3166-2 has them (`GB-ENG`), the largest first.
    pub(crate) fn subdivision_codes(&self) -> impl DoubleEndedIterator<Item = String> {
        let country = self.country.unwrap_or_default();
        self.subdivisions.iter().map(move |part| format!("{country}-{part}"))
    }
}

impl Miss {
    pub(crate) const ALL: [Self; 4] = [Self::Private, Self::NotFound, Self::WrongFamily, Self::Unreadable];

    /// As labels and output say it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::NotFound => "not_found",
            Self::WrongFamily => "wrong_family",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Kind {
    /// The types of databases that can be read.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::City => "a GeoLite2-City, GeoIP2-City or DBIP-City-Lite database",
            Self::Asn => "a GeoLite2-ASN or DBIP-ASN-Lite database",
        }
    }

    /// As labels and logs say it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::City => "city",
            Self::Asn => "asn",
        }
    }
}

impl Database {
    /// Reads the file, and tries every record of it: what was opened cannot fail in a lookup.
    pub(crate) fn open(kind: Kind, path: &Path) -> Result<Self, Fault> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(Fault::TooLarge);
        }
        // The reader trusts its file: where a length or a pointer leads out of it, it panics. Here that does no harm.
        catch_unwind(AssertUnwindSafe(|| Self::check(kind, bytes))).unwrap_or(Err(Fault::Panicked))
    }

    /// What is known of an address.
    pub(crate) fn lookup(&self, ip: IpAddr) -> Result<Known<'_>, Miss> {
        let ip = ip.to_canonical();
        if is_private(ip) {
            return Err(Miss::Private);
        }
        self.reader.get().lookup(ip).map_err(|error| match error {
            geoip2::Error::NotFound => Miss::NotFound,
            geoip2::Error::IPv4Only => Miss::WrongFamily,
            _ => Miss::Unreadable,
        })
    }

    fn check(kind: Kind, bytes: Vec<u8>) -> Result<Self, Fault> {
        let reader: Yoke<Layout<'static>, Vec<u8>> =
            Yoke::try_attach_to_cart(bytes, |bytes| Layout::read(kind, bytes))?;
        let (tree, built_s) = reader.get().tree(reader.backing_cart());
        let unreadable = tree.try_records(|ip| reader.get().lookup(ip).map(drop))?;
        Ok(Self { reader, built_s, unreadable })
    }
}

impl<'a> Layout<'a> {
    fn read(kind: Kind, bytes: &'a [u8]) -> Result<Self, Fault> {
        let read = match kind {
            Kind::City => Reader::<City<'_>>::from_bytes(bytes).map(Self::City),
            Kind::Asn => Reader::<ASN<'_>>::from_bytes(bytes).map(Self::Asn),
        };
        read.map_err(|error| match error {
            geoip2::Error::InvalidDatabaseType(found) => Fault::Type(found),
            error => Fault::Broken(error),
        })
    }

    fn lookup(&self, ip: IpAddr) -> Result<Known<'_>, geoip2::Error> {
        match self {
            Self::City(reader) => reader.lookup(ip).map(|city| Known {
                country: city.country.and_then(|country| country.iso_code),
                subdivisions: city.subdivisions.into_iter().flatten().filter_map(|part| part.iso_code).collect(),
                point: city.location.and_then(|location| location.latitude.zip(location.longitude)),
                ..Known::default()
            }),
            Self::Asn(reader) => reader.lookup(ip).map(|system| Known {
                asn: system.autonomous_system_number,
                organisation: system.autonomous_system_organization,
                ..Known::default()
            }),
        }
    }

    /// Where the file's addresses lead to, and when it was made.
    fn tree<'b>(&self, bytes: &'b [u8]) -> (Tree<'b>, u64) {
        let metadata = match self {
            Self::City(reader) => reader.get_metadata(),
            Self::Asn(reader) => reader.get_metadata(),
        };
        let (record_bits, address_bits) = (metadata.record_size, if metadata.ip_version == 4 { 32 } else { 128 });
        (Tree { bytes, nodes: metadata.node_count as usize, record_bits, address_bits }, metadata.build_epoch)
    }
}

/// The binary tree that a file begins with: a node has a record for each value of the address's next bit, which is
/// another node, the number of nodes (nothing is known), or more than that (where its data is).
struct Tree<'a> {
    bytes: &'a [u8],
    nodes: usize,
    /// 24, 28 or 32; the reader has seen to that, and to that all nodes are there.
    record_bits: u16,
    address_bits: u8,
}

impl Tree<'_> {
    /// Tries one address of each record, and counts those that have a field which the reader does not know.
    fn try_records(&self, lookup: impl Fn(IpAddr) -> Result<(), geoip2::Error>) -> Result<usize, Fault> {
        let mut unreadable = 0;
        let mut seen = vec![false; self.nodes];
        let mut tried = HashSet::new();
        let mut left = vec![(0, 0_u128, 0_u8)];
        while let Some((node, prefix, length)) = left.pop() {
            if node >= self.nodes || std::mem::replace(&mut seen[node], true) {
                continue;
            }
            // The left one on top: IPv4 is on the far left of IPv6, and its other places there only point to it.
            for (bit, record) in self.records(node).into_iter().enumerate().rev() {
                let prefix = prefix | (bit as u128) << (self.address_bits - 1 - length);
                if record < self.nodes {
                    if length + 1 == self.address_bits {
                        return Err(Fault::TooDeep(shown(self.address(prefix))));
                    }
                    left.push((record, prefix, length + 1));
                } else if record > self.nodes && tried.insert(record) {
                    match lookup(self.address(prefix)) {
                        Ok(()) => {}
                        Err(geoip2::Error::UnknownField(_)) => unreadable += 1,
                        Err(error) => return Err(Fault::Record(shown(self.address(prefix)), error)),
                    }
                }
            }
        }
        Ok(unreadable)
    }

    fn records(&self, node: usize) -> [usize; 2] {
        let size = usize::from(self.record_bits) / 4;
        let bytes = &self.bytes[node * size..][..size];
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        match self.record_bits {
            // The byte in the middle has the highest four bits of both.
            28 => [
                usize::from(bytes[3] >> 4) << 24 | number(&bytes[..3]),
                usize::from(bytes[3] & 15) << 24 | number(&bytes[4..]),
            ],
            _ => [number(&bytes[..size / 2]), number(&bytes[size / 2..])],
        }
    }

    fn address(&self, bits: u128) -> IpAddr {
        match self.address_bits {
            32 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }
}

/// An address that stands for an IPv4 one, which a file of IPv6 keeps on its far left, as that.
fn shown(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(long) => long.to_ipv4().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_carriers = a == 100 && b & 0b1100_0000 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || is_carriers
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("built_s", &self.built_s).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::sample::{made, write};

    /// One of each record of the tests' databases, and some that they do not have.
    const ADDRESSES: [&str; 16] = [
        "192.0.2.1",
        "192.0.2.65",
        "192.0.2.129",
        "192.0.2.193",
        "198.51.100.1",
        "198.51.100.65",
        "198.51.100.129",
        "198.51.100.193",
        "203.0.113.1",
        "203.0.113.65",
        "203.0.113.129",
        "203.0.113.193",
        "203.0.113.225",
        "2001:db8:1::1",
        "2001:db8:2::1",
        "2001:db8:9::1",
    ];

    #[test]
    fn an_address_of_either_family_has_its_place_and_its_system() {
        let city = Database::open(Kind::City, &made("city.mmdb")).unwrap();
        for ip in ["192.0.2.1", "::ffff:192.0.2.63", "2001:db8:1::1"] {
            let known = city.lookup(ip.parse().unwrap()).unwrap();
            assert_eq!((known.country, known.subdivisions), (Some("CN"), vec!["SH"]), "{ip}");
            assert_eq!((known.point, known.asn), (Some((31.22, 121.46)), None), "{ip}");
        }
        let london = city.lookup("198.51.100.193".parse().unwrap()).unwrap();
        assert_eq!(london.subdivision_codes().collect::<Vec<_>>(), ["GB-ENG", "GB-LND"]);
        let asn = Database::open(Kind::Asn, &made("asn.mmdb")).unwrap();
        for (ip, number, name) in [("192.0.2.1", 4134, "Chinanet"), ("2001:db8:2::1", 3320, "Deutsche Telekom")] {
            let known = asn.lookup(ip.parse().unwrap()).unwrap();
            assert_eq!((known.asn, known.organisation, known.country), (Some(number), Some(name), None), "{ip}");
        }
    }

    #[test]
    fn of_what_is_not_known_it_is_said_why() {
        let both = Database::open(Kind::City, &made("city.mmdb")).unwrap();
        let only_ipv4 = Database::open(Kind::City, &made("city-ipv4.mmdb")).unwrap();
        let newer = Database::open(Kind::City, &made("city-fields.mmdb")).unwrap();
        assert_eq!((both.unreadable, newer.unreadable), (0, 1));
        for (database, ip, miss) in [
            (&both, "203.0.113.225", Miss::NotFound),
            (&both, "2001:db8:9::1", Miss::NotFound),
            (&only_ipv4, "2001:db8:1::1", Miss::WrongFamily),
            (&newer, "198.51.100.65", Miss::Unreadable),
            (&both, "10.1.2.3", Miss::Private),
            (&both, "172.31.0.1", Miss::Private),
            (&both, "192.168.0.1", Miss::Private),
            (&both, "127.0.0.1", Miss::Private),
            (&both, "169.254.1.1", Miss::Private),
            (&both, "100.64.0.1", Miss::Private),
            (&both, "100.127.255.254", Miss::Private),
            (&both, "100.128.0.1", Miss::NotFound),
            (&both, "::ffff:10.0.0.1", Miss::Private),
            (&both, "::1", Miss::Private),
            (&both, "fe80::1", Miss::Private),
            (&both, "fd00::1", Miss::Private),
            (&only_ipv4, "fd00::1", Miss::Private),
        ] {
            assert_eq!(database.lookup(ip.parse().unwrap()), Err(miss), "{ip}");
        }
        assert_eq!(newer.lookup("198.51.100.1".parse().unwrap()).unwrap().country, Some("DE"));
    }

    #[test]
    fn a_file_that_is_no_such_database_is_refused_with_the_reason() {
        let city = std::fs::read(made("city.mmdb")).unwrap();
        let half = write(&city[..city.len() / 2]);
        let text = write(b"no database");
        let empty = write(b"");
        for (path, reason) in [
            (made("asn.mmdb"), "it is of the type \"GeoLite2-ASN\""),
            (made("city-worn.mmdb"), "it is broken: its reader panicked"),
            (half.path().to_owned(), "it is cut off, broken or no such database at all: InvalidMetadata"),
            (text.path().to_owned(), "it is cut off, broken or no such database at all: InvalidMetadata"),
            (empty.path().to_owned(), "it is cut off, broken or no such database at all: InvalidMetadata"),
            (made("city.mmdb").with_file_name("gone"), "it cannot be read"),
            (std::env::temp_dir(), "it cannot be read"),
        ] {
            let fault = Database::open(Kind::City, &path).unwrap_err();
            assert_eq!(fault.to_string(), reason, "{}", path.display());
        }
    }

    #[test]
    fn no_byte_that_is_wrong_makes_a_lookup_panic() {
        let addresses = ADDRESSES.map(|ip| ip.parse::<IpAddr>().unwrap());
        let whole = std::fs::read(made("city.mmdb")).unwrap();
        let (mut refused, mut opened) = (0, 0);
        let mut attempt = |bytes: Vec<u8>| match catch_unwind(|| Database::check(Kind::City, bytes)) {
            Ok(Ok(database)) => {
                opened += 1;
                // A panic here fails the test.
                addresses.iter().for_each(|ip| drop(database.lookup(*ip)));
            }
            Ok(Err(_)) | Err(_) => refused += 1,
        };
        for at in 0..whole.len() {
            attempt(whole[..at].to_vec());
            for wrong in [0x00, 0x20, 0x3f, 0xe1, 0xff, whole[at] ^ 1] {
                let mut bytes = whole.clone();
                bytes[at] = wrong;
                attempt(bytes);
            }
        }
        assert!(refused > whole.len() && opened > whole.len(), "{refused} refused, {opened} opened");
    }
}
