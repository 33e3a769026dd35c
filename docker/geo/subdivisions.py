"""ISO 3166-2 codes of provinces and states by the names that DB-IP has for them."""

import re
import unicodedata

import pycountry

# What says that a place is a province, but not which.
GENERAL = set(
    "and autonomous canton city community county department district do federal governorate krai kray lan municipality oblast"
    " of parish prefecture province region republic respublika sheng shi state territory the voivodeship zizhiqu".split()
)

# English names where ISO has those of the country itself, former names, and spellings of DB-IP's own.
NAMES = {
    "AT": {"Carinthia": "2", "Lower Austria": "3", "Styria": "6", "Tyrol": "7", "Upper Austria": "4", "Vienna": "9"},
    "AU": {"ACT": "ACT"},
    "BE": {"Brussels Capital": "BRU", "Flanders": "VLG", "Wallonia": "WAL"},
    "BR": {"Federal District": "DF"},
    "CH": {"Basel-City": "BS", "Bern": "BE", "Geneva": "GE", "Grisons": "GR", "Lucerne": "LU", "Saint Gall": "SG"},
    "CN": {"Guangxi": "GX", "Inner Mongolia": "NM", "Ningxia": "NX", "Tibet": "XZ", "Xinjiang": "XJ"},
    "CZ": {"Hlavni mesto Praha": "10", "Prague": "10", "South Moravian": "64", "Central Bohemia": "20"},
    "DE": {
        "Bavaria": "BY", "Free and Hanseatic City of Hamburg": "HH", "Free Hanseatic City of Bremen": "HB", "Hesse": "HE",
        "Lower Saxony": "NI", "North Rhine-Westphalia": "NW", "Saxony": "SN", "Saxony-Anhalt": "ST", "Thuringia": "TH",
    },
    "DK": {
        "Capital Region": "84", "Central Jutland": "82", "North Denmark": "81", "South Denmark": "83", "Zealand": "85",
    },
    "ES": {
        "Andalusia": "AN", "Balearic Islands": "IB", "Basque Country": "PV", "Canary Islands": "CN",
        "Castille and Leon": "CL", "Castille-La Mancha": "CM", "Catalonia": "CT", "Navarre": "NC", "Valencia": "VC",
    },
    "FR": {
        "Bourgogne": "BFC", "Brittany": "BRE", "Corsica": "20R", "New Aquitaine": "NAQ", "Normandy": "NOR",
        "Provence": "PAC", "Provence-Alpes-Cote d'Azur": "PAC", "Rhone-Alpes": "ARA",
    },
    "ID": {
        "Central Java": "JT", "East Java": "JI", "Jakarta": "JK", "North Sumatra": "SU", "South Sulawesi": "SN",
        "South Sumatra": "SS", "West Java": "JB",
    },
    "IN": {"Andaman and Nicobar": "AN"},
    "IT": {
        "Aosta Valley": "23", "Apulia": "75", "Basilicate": "77", "Lombardy": "25", "Piedmont": "21", "Sardinia": "88",
        "Sicily": "82", "The Marches": "57", "Tuscany": "52",
    },
    "KR": {
        "Busan": "26", "Daegu": "27", "Daejeon": "30", "Gangwon-do": "42", "Gwangju": "29", "Incheon": "28", "Jeju-do": "49",
        "North Chungcheong": "43", "Sejong-si": "50", "Seoul": "11", "Ulsan": "31",
    },
    "MY": {"Kuala Lumpur": "14", "Labuan": "15", "Penang": "07", "Putrajaya": "16"},
    "NL": {"Friesland": "FR", "North Brabant": "NB", "North Holland": "NH", "South Holland": "ZH"},
    "PL": {
        "Greater Poland": "30", "Lesser Poland": "12", "Lodz Voivodeship": "10", "Lower Silesia": "02", "Lublin": "06",
        "Lubusz": "08", "Mazovia": "14", "Opole Voivodeship": "16", "Podlasie": "20", "Pomerania": "22", "Silesia": "24",
        "Subcarpathia": "18", "Subcarpathian": "18", "Warmia-Masuria": "28", "West Pomerania": "32",
    },
    "RO": {"Bucharest": "B"},
    "RU": {
        "Altay Kray": "ALT", "Bashkortostan": "BA", "Chechnya": "CE", "Chukotka": "CHU", "Chuvash": "CU", "Chuvashia": "CU",
        "Crimea": None, "Ivanovo": "IVA", "Jaroslavl": "YAR", "Kabardino-Balkariya": "KB", "Kaluga": "KLU",
        "Kamchatka": "KAM", "Karachayevo-Cherkesiya": "KC", "Karelia": "KR", "Kemerovo": "KEM", "Khanty-Mansia": "KHM",
        "Kostroma": "KOS", "Kuzbass": "KEM", "Leningradskaya": "LEN", "Moscow": "MOW", "Moscow Oblast": "MOS",
        "Nizhny Novgorod": "NIZ", "North Ossetia": "SE", "North Ossetia–Alania": "SE", "Orel": "ORL", "Oryol": "ORL",
        "Penza": "PNZ", "Primorye": "PRI", "Sakha": "SA", "Samara": "SAM", "St.-Petersburg": "SPE", "Tatarstan": "TA",
        "Transbaikal": "ZAB", "Tula": "TUL", "Tyva": "TY", "Udmurtiya": "UD", "Vologda": "VLG", "Voronezj": "VOR",
        "Yamalo-Nenets": "YAN", "Yaroslavl": "YAR", "Zabaykalsky": "ZAB",
    },
    "TH": {"Bangkok": "10"},
    "TW": {"Taiwan": None},
    "VN": {"Hanoi": "HN"},
}


def plain(name):
    """The words that tell one place from another, without accents."""
    letters = unicodedata.normalize("NFKD", name.replace("ø", "o").replace("ł", "l").replace("ı", "i"))
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter)).lower()
    words = re.sub(r"[^a-z0-9]+", " ", re.sub(r"\[.*?]|\(.*?\)|['’]", "", letters)).split()
    return " ".join([word for word in words if word not in GENERAL] or words)


def stem(name):
    """Without the ending that makes a Russian or Swedish province of a town: Tverskaya oblast', Tver."""
    return re.sub(r"(skaya|skiy|sk|aya|iy|ya|s)$", "", plain(name))


class Subdivisions:
    """Finds codes by names; of each country that is asked for, all its names are kept."""

    def __init__(self):
        self.countries = {}

    def code(self, country, name):
        """The code without its country; None if we don't know the name."""
        key = stem if country in ("RU", "SE") else plain
        if country not in self.countries:
            self.countries[country] = {**official(country, key), **{key(n): c for n, c in NAMES.get(country, {}).items()}}
        return NAMES.get(country, {}).get(name) or self.countries[country].get(key(name))


def official(country, key):
    """ISO's codes by name, those of the top level first. A name of two places of a level is none."""
    found = {}
    everything = pycountry.subdivisions.get(country_code=country) or []
    for is_part in (True, False):
        level = {}
        for place in everything:
            if (place.parent_code is not None) == is_part:
                code = place.code.partition("-")[2]
                for name in {key(part) for part in re.split("[;,]", place.name)}:
                    level[name] = code if level.get(name, code) == code else None
        found.update(level)
    return found
