//! One GeoIP database in memory: the tree that addresses lead through, and what each record at its ends means to us.
//!
//! All records are read once, when the file is; a lookup walks the tree, decodes nothing and cannot fail.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use geoip2::{ASN, City, Reader};
use serde::Serialize;

use super::tree::{TooDeep, Tree};

/// A larger file is none of ours; the largest that are known have 130 MB.
const MOST_BYTES: u64 = 1 << 30;

/// What a database is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    City,
    Asn,
}

/// What a record says. Codes are those of ISO 3166, as the file has them.
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

/// A database that is in use. `T` is what a record means to whoever asks.
pub(crate) struct Database<T> {
    /// An address ends at the number of its meaning, from 1.
    tree: Tree,
    /// None: the record has a field that the reader does not know.
    meanings: Vec<Option<T>>,
    /// How many different records are of that kind.
    pub unreadable: usize,
    /// When it was made, in seconds since 1970.
    pub built_s: u64,
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

impl<T: Eq + Hash> Database<T> {
    /// Reads the file, and asks of every record in it what it means.
    pub(crate) fn open(kind: Kind, path: &Path, mean: impl Fn(&Known<'_>) -> T) -> Result<Self, Fault> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(Fault::TooLarge);
        }
        // The reader trusts its file: where a length or a pointer leads out of it, it panics. Here that does no harm.
        catch_unwind(AssertUnwindSafe(|| Self::read(kind, &bytes, mean))).unwrap_or(Err(Fault::Panicked))
    }

    /// What an address's record means.
    pub(crate) fn lookup(&self, ip: IpAddr) -> Result<&T, Miss> {
        let ip = ip.to_canonical();
        if is_private(ip) {
            return Err(Miss::Private);
        }
        let end = self.tree.end(ip).ok_or(Miss::WrongFamily)? as usize;
        let meaning = self.meanings.get(end.wrapping_sub(1)).ok_or(Miss::NotFound)?;
        meaning.as_ref().ok_or(Miss::Unreadable)
    }

    fn read(kind: Kind, file: &[u8], mean: impl Fn(&Known<'_>) -> T) -> Result<Self, Fault> {
        let layout = Layout::read(kind, file)?;
        let (tree, built_s) = layout.tree(file);
        let mut numbers = HashMap::new();
        let mut unreadable = 0;
        let tree = tree.renumbered(|ip| {
            let meaning = match layout.lookup(ip) {
                Ok(known) => Some(mean(&known)),
                Err(geoip2::Error::UnknownField(_)) => {
                    unreadable += 1;
                    None
                }
                Err(error) => return Err(Fault::Record(ip, error)),
            };
            let next = numbers.len() as u32 + 1;
            Ok(*numbers.entry(meaning).or_insert(next))
        })?;
        let mut meanings: Vec<_> = numbers.into_iter().collect();
        meanings.sort_unstable_by_key(|(_, number)| *number);
        let meanings = meanings.into_iter().map(|(meaning, _)| meaning).collect();
        Ok(Self { tree, meanings, unreadable, built_s })
    }
}

/// The two kinds of files, as their reader knows them.
enum Layout<'a> {
    City(Reader<'a, City<'a>>),
    Asn(Reader<'a, ASN<'a>>),
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

    /// Where addresses lead to, and when the file was made. The reader has seen to it that all nodes are there.
    fn tree(&self, file: &[u8]) -> (Tree, u64) {
        let metadata = match self {
            Self::City(reader) => reader.get_metadata(),
            Self::Asn(reader) => reader.get_metadata(),
        };
        let (count, record_bits) = (metadata.node_count as usize, usize::from(metadata.record_size));
        (Tree::new(file, count, record_bits, metadata.ip_version == 6), metadata.build_epoch)
    }
}

impl From<TooDeep> for Fault {
    fn from(TooDeep(ip): TooDeep) -> Self {
        Self::TooDeep(ip)
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

impl<T> std::fmt::Debug for Database<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("built_s", &self.built_s).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::sample::{made, write};

    #[test]
    fn an_address_of_either_family_has_its_place_and_its_system() {
        let city = database("city.mmdb");
        for ip in ["192.0.2.1", "::ffff:192.0.2.63", "2001:db8:1::1"] {
            assert_eq!(found(&city, ip), Ok("CN CN-SH 31.22,121.46"), "{ip}");
        }
        assert_eq!(found(&city, "198.51.100.193"), Ok("GB GB-ENG GB-LND 51.51,-0.13"));
        assert_eq!(found(&city, "198.51.100.129"), Ok("IS 64.15,-21.94"));
        assert_eq!(found(&city, "203.0.113.193"), Ok("JP"));
        let asn = Database::open(Kind::Asn, &made("asn.mmdb"), shown).unwrap();
        assert_eq!(found(&asn, "192.0.2.1"), Ok("4134 Chinanet"));
        assert_eq!(found(&asn, "2001:db8:2::1"), Ok("3320 Deutsche Telekom"));
    }

    #[test]
    fn what_it_gives_is_what_its_reader_gives() {
        for name in ["city.mmdb", "city-moved.mmdb", "city-ipv4.mmdb", "city-fields.mmdb"] {
            let file = std::fs::read(made(name)).unwrap();
            let reader = Reader::<City<'_>>::from_bytes(&file).unwrap();
            let database = database(name);
            for ip in addresses() {
                let country = reader.lookup(ip).ok().map(|city| city.country.unwrap().iso_code.unwrap());
                let ours = database.lookup(ip).ok().map(|shown| &shown[..2]);
                assert_eq!(ours, country, "{ip} in {name}");
            }
        }
    }

    #[test]
    fn of_what_is_not_known_it_is_said_why() {
        let (both, only_ipv4, newer) =
            (database("city.mmdb"), database("city-ipv4.mmdb"), database("city-fields.mmdb"));
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
            assert_eq!(found(database, ip), Err(miss), "{ip}");
        }
        assert_eq!(found(&newer, "198.51.100.1"), Ok("DE DE-HE 50.11,8.68"));
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
            let fault = Database::open(Kind::City, &path, shown).unwrap_err();
            assert_eq!(fault.to_string(), reason, "{}", path.display());
        }
    }

    #[test]
    fn no_byte_that_is_wrong_makes_a_lookup_panic() {
        let whole = std::fs::read(made("city.mmdb")).unwrap();
        let (mut refused, mut opened) = (0, 0);
        let mut attempt = |bytes: &[u8]| match catch_unwind(|| Database::read(Kind::City, bytes, shown)) {
            Ok(Ok(database)) => {
                opened += 1;
                // A panic here fails the test.
                assert!(addresses().filter(|ip| database.lookup(*ip).is_ok()).count() <= 37);
            }
            Ok(Err(_)) | Err(_) => refused += 1,
        };
        for at in 0..whole.len() {
            attempt(&whole[..at]);
            for wrong in [0x00, 0x20, 0x3f, 0xe1, 0xff, whole[at] ^ 1] {
                let mut bytes = whole.clone();
                bytes[at] = wrong;
                attempt(&bytes);
            }
        }
        assert!(refused > whole.len() && opened > whole.len(), "{refused} refused, {opened} opened");
    }

    fn database(name: &str) -> Database<String> {
        Database::open(Kind::City, &made(name), shown).unwrap()
    }

    fn found<'a>(database: &'a Database<String>, ip: &str) -> Result<&'a str, Miss> {
        database.lookup(ip.parse().unwrap()).map(String::as_str)
    }

    fn shown(known: &Known<'_>) -> String {
        let parts = known.country.map(str::to_owned).into_iter().chain(known.subdivision_codes());
        let parts = parts.chain(known.point.map(|(latitude, longitude)| format!("{latitude},{longitude}")));
        let parts = parts.chain(known.asn.map(|asn| asn.to_string())).chain(known.organisation.map(str::to_owned));
        parts.collect::<Vec<_>>().join(" ")
    }

    /// Of each record of the tests' databases one, and some that they do not have.
    fn addresses() -> impl Iterator<Item = IpAddr> {
        let ipv4 = [[192, 0, 2], [198, 51, 100], [203, 0, 113], [8, 8, 8]];
        let ipv4 = ipv4.into_iter().flat_map(|[a, b, c]| (0..8).map(move |part| [a, b, c, part * 32].into()));
        ipv4.chain((0..5).map(|part| [0x2001, 0xdb8, part, 0, 0, 0, 0, 1].into()))
    }
}
