//! The bench's clients: each at an address of its own, of which GeoIP databases have to tell region and carrier.

use std::io::Write as _;
use std::net::Ipv4Addr;

use roost_tests::{Trouble, binaries};
use tempfile::NamedTempFile;

const TABLES: &str = r#"
    [regions.cn]
    countries = ["CN"]
    [regions."cn/east"]
    subdivisions = ["CN-SH", "CN-JS", "CN-ZJ"]
    [regions."eu/central"]
    countries = ["DE", "AT", "CH"]
    point = [50.1, 8.7]
    [regions."us/east"]
    point = [39.0, -77.5]
    [regions."us/west"]
    point = [37.4, -122.1]
    [carriers.telecom]
    asns = [4134, 4809, 4812, 23724]
    [carriers.telekom]
    asns = [3320]
"#;

/// Where the clients are.
pub(crate) struct Clients {
    /// What the scheduler is told of databases and regions.
    pub(crate) scheduler_arguments: Vec<String>,
    /// Which databases: those of `make geo`, or the tests' own.
    pub(crate) databases: &'static str,
    _tables: NamedTempFile,
}

impl Clients {
    /// With the databases of `make geo` where they are there.
    pub(crate) fn new() -> Result<Self, Trouble> {
        let target = binaries::tree().join("target");
        let databases = if target.join("geo/city.mmdb").exists() { "geo" } else { "geo-test" };
        let path = |name: &str| target.join(databases).join(name).display().to_string();
        let mut tables = NamedTempFile::new()?;
        tables.write_all(TABLES.as_bytes())?;
        let config = tables.path().display().to_string();
        let arguments = ["--config", &config, "--geo-city", &path("city.mmdb"), "--geo-asn", &path("asn.mmdb")];
        Ok(Self { scheduler_arguments: arguments.map(str::to_owned).to_vec(), databases, _tables: tables })
    }

    /// The body of the n-th client's lookup, who may be anywhere that a database knows.
    pub(crate) fn body(&self) -> impl Fn(u64) -> String + Clone + Send + Sync + use<> {
        let is_real = self.databases == "geo";
        move |n| {
            // Spread over all addresses by the golden ratio.
            let spread = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
            let made_up = [[192, 0, 2], [198, 51, 100], [203, 0, 113]][spread as usize % 3];
            let [a, b, c, d] = spread.to_be_bytes();
            let [a, b, c] = if is_real { [a, b, c] } else { made_up };
            let ip = Ipv4Addr::new(a, b, c, d);
            format!(r#"{{"user_id":"u-1","client_ip":"{ip}","expected_participants":8}}"#)
        }
    }
}
