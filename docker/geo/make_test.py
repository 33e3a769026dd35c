"""Makes small GeoIP databases for tests, in the layout of GeoLite2, from prefixes that are reserved for documentation.

    make_test.py FOLDER

Writes city.mmdb and asn.mmdb, and four that are special: city-moved.mmdb (Shanghai's addresses are in Frankfurt),
city-ipv4.mmdb (without IPv6), city-fields.mmdb (Paris has a field that readers may not know), and city-worn.mmdb (one
record points out of the file).
"""

import pathlib
import sys

from mmdb_writer import MMDBWriter, MmdbU32
from netaddr import IPSet

# country, subdivisions (the largest first), latitude and longitude
SHANGHAI = ("CN", ["SH"], (31.22, 121.46))
NANJING = ("CN", ["JS"], (32.06, 118.78))
GUANGZHOU = ("CN", ["GD"], (23.13, 113.26))
URUMQI = ("CN", ["XJ"], (43.80, 87.60))
FRANKFURT = ("DE", ["HE"], (50.11, 8.68))
PARIS = ("FR", ["IDF"], (48.86, 2.35))
REYKJAVIK = ("IS", [], (64.15, -21.94))
LONDON = ("GB", ["ENG", "LND"], (51.51, -0.13))
ASHBURN = ("US", ["VA"], (39.04, -77.49))
SAN_JOSE = ("US", ["CA"], (37.34, -121.89))
SOMEWHERE_IN_US = ("US", [], (37.751, -97.822))
SOMEWHERE_IN_JP = ("JP", [], None)

CITIES = {
    "192.0.2.0/26": SHANGHAI,
    "192.0.2.64/26": NANJING,
    "192.0.2.128/26": GUANGZHOU,
    "192.0.2.192/26": URUMQI,
    "198.51.100.0/26": FRANKFURT,
    "198.51.100.64/26": PARIS,
    "198.51.100.128/26": REYKJAVIK,
    "198.51.100.192/26": LONDON,
    "203.0.113.0/26": ASHBURN,
    "203.0.113.64/26": SAN_JOSE,
    "203.0.113.128/26": SOMEWHERE_IN_US,
    "203.0.113.192/27": SOMEWHERE_IN_JP,
    "2001:db8:1::/48": SHANGHAI,
    "2001:db8:2::/48": FRANKFURT,
    "2001:db8:3::/48": ASHBURN,
}

SYSTEMS = {
    "192.0.2.0/25": (4134, "Chinanet"),
    "192.0.2.128/26": (4837, "China Unicom"),
    "192.0.2.192/26": (9808, "China Mobile"),
    "198.51.100.0/25": (3320, "Deutsche Telekom"),
    "198.51.100.128/26": (64500, "Made up"),
    "203.0.113.0/25": (7922, "Comcast"),
    "2001:db8:1::/48": (4134, "Chinanet"),
    "2001:db8:2::/48": (3320, "Deutsche Telekom"),
}


def city_record(place):
    country, subdivisions, point = place
    record = {"country": {"iso_code": country}}
    if subdivisions:
        record["subdivisions"] = [{"iso_code": code} for code in subdivisions]
    if point:
        record["location"] = {"latitude": point[0], "longitude": point[1]}
    return record


def system_record(system):
    number, name = system
    return {"autonomous_system_number": MmdbU32(number), "autonomous_system_organization": name}


def write(path, kind, records, ip_version=6):
    writer = MMDBWriter(ip_version, kind, ["en"], {"en": "made up, for tests"}, ipv4_compatible=ip_version == 6)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))


def wear(path, worn):
    """Copies a database with the record of Reykjavik broken: its country is said to stand behind the file's end."""
    data = bytearray(path.read_bytes())
    # The string IS, then a map of one entry: pointers to its key and to that string.
    at = data.index(b"\x42IS\xe1") + 6
    data[at : at + 2] = b"\x27\xff"
    worn.write_bytes(data)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    cities = {network: city_record(place) for network, place in CITIES.items()}
    write(folder / "city.mmdb", "GeoLite2-City", cities)
    write(folder / "asn.mmdb", "GeoLite2-ASN", {n: system_record(system) for n, system in SYSTEMS.items()})
    write(folder / "city-moved.mmdb", "DBIP-City-Lite", {**cities, "192.0.2.0/26": city_record(FRANKFURT)})
    only_ipv4 = {network: record for network, record in cities.items() if ":" not in network}
    write(folder / "city-ipv4.mmdb", "GeoLite2-City", only_ipv4, ip_version=4)
    anycast = {**city_record(PARIS), "traits": {"is_anycast": True}}
    write(folder / "city-fields.mmdb", "GeoIP2-City", {**cities, "198.51.100.64/26": anycast})
    wear(folder / "city.mmdb", folder / "city-worn.mmdb")


if __name__ == "__main__":
    main()
