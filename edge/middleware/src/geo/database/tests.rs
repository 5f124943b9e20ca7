use std::fs;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const COUNTRY: &[u8] = include_bytes!("../../../data/GeoIP2-Country-Test.mmdb");
const CITY: &[u8] = include_bytes!("../../../data/GeoIP2-City-Test.mmdb");

fn open(bytes: &[u8]) -> Result<Database, GeoError> {
    Database::from_bytes(bytes.to_vec(), "test.mmdb")
}

fn lookup(database: &Database, address: &str) -> Location {
    database.lookup(address.parse().unwrap()).unwrap()
}

fn country(database: &Database, address: &str) -> Option<String> {
    lookup(database, address).country
}

/// A value in the format's data section (maxmind.github.io/MaxMind-DB): control byte, size, payload.
fn encode(value: &Json, out: &mut Vec<u8>) {
    let control = |kind: u8, size: usize, out: &mut Vec<u8>| {
        let (first, more) = if size < 29 { (size as u8, None) } else { (29, Some((size - 29) as u8)) };
        if kind < 8 {
            out.push(kind << 5 | first)
        } else {
            out.extend([first, kind - 7])
        }
        out.extend(more);
    };
    match value {
        Json::String(text) => {
            control(2, text.len(), out);
            out.extend(text.bytes());
        }
        Json::Number(number) if number.is_f64() => {
            control(3, 8, out);
            out.extend(number.as_f64().unwrap().to_be_bytes());
        }
        Json::Number(number) => {
            control(6, 4, out);
            out.extend((number.as_u64().unwrap() as u32).to_be_bytes());
        }
        Json::Object(map) => {
            control(7, map.len(), out);
            for (key, value) in map {
                encode(&key.clone().into(), out);
                // Metadata must have exactly these widths.
                let number = value.as_u64().unwrap_or_default().to_be_bytes();
                match key.as_str() {
                    "build_epoch" => out.extend([8, 2].iter().chain(&number)),
                    "record_size" | "ip_version" => out.extend([0xa2].iter().chain(&number[6..])),
                    _ if key.starts_with("binary_format") => out.extend([0xa2].iter().chain(&number[6..])),
                    _ => encode(value, out),
                }
            }
        }
        Json::Array(list) => {
            control(11, list.len(), out);
            list.iter().for_each(|value| encode(value, out));
        }
        Json::Bool(flag) => control(14, usize::from(*flag), out),
        Json::Null => unreachable!("the format has no null"),
    }
}

/// A database with these nodes, of 24-bit records, and one data record. 1 << 23 in a node stands for that record.
fn database(ip_version: u32, nodes: &[[usize; 2]], record: &Json) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in nodes.iter().flatten() {
        let record = if *record == DATA { nodes.len() + 16 } else { *record };
        bytes.extend(&(record as u32).to_be_bytes()[1..]);
    }
    bytes.extend([0; 16]);
    encode(record, &mut bytes);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    let metadata = json!({
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1, "database_type": "Test",
        "description": {"en": "test"}, "ip_version": ip_version, "languages": ["en"], "node_count": nodes.len(),
        "record_size": 24,
    });
    encode(&metadata, &mut bytes);
    bytes
}

const DATA: usize = 1 << 23;

#[test]
fn the_builtin_database_knows_countries_of_both_families() {
    let database = Database::builtin().unwrap();
    assert_eq!(country(&database, "133.11.0.1").as_deref(), Some("JP"));
    assert_eq!(country(&database, "141.30.0.1").as_deref(), Some("DE"));
    assert_eq!(country(&database, "2001:4860:4860::8888").as_deref(), Some("US"));
    let japan = lookup(&database, "133.11.0.1");
    assert_eq!((japan.continent.as_deref(), japan.is_eu), (Some("AS"), false));
    assert!(japan.latitude.is_none() && japan.point().is_some());
    let germany = lookup(&database, "141.30.0.1");
    assert_eq!((germany.continent.as_deref(), germany.is_eu), (Some("EU"), true));
}

#[test]
fn the_builtin_database_is_sound_and_every_country_in_it_has_a_place() {
    let bytes: &[u8] = include_bytes!("../../../data/iptoasn-country.mmdb");
    let database = open(bytes).unwrap();
    assert_eq!(database.build_epoch(), Database::builtin().unwrap().build_epoch());
    for first in 1..=223u8 {
        for second in (0..=255u8).step_by(5) {
            let found = database.lookup([first, second, 7, 1].into()).unwrap();
            assert_eq!(found.country.is_some(), found.point().is_some(), "{found:?}");
        }
    }
}

#[test]
fn mapped_addresses_are_looked_up_as_ipv4() {
    let database = Database::builtin().unwrap();
    assert_eq!(lookup(&database, "::ffff:133.11.0.1"), lookup(&database, "133.11.0.1"));
}

#[test]
fn addresses_that_are_not_public_are_nowhere() {
    // A database that would place every address there is.
    let bytes = database(4, &[[DATA, DATA]], &json!({"country_code": "US"}));
    let everywhere = open(&bytes).unwrap();
    assert_eq!(country(&everywhere, "8.8.8.8").as_deref(), Some("US"));
    for address in ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1", "0.0.0.0"] {
        assert_eq!(lookup(&everywhere, address), Location::default(), "{address}");
        assert_eq!(lookup(&everywhere, &format!("::ffff:{address}")), Location::default(), "{address}");
    }
    for address in ["::1", "::", "fe80::1", "fd00::1"] {
        assert_eq!(lookup(&everywhere, address), Location::default(), "{address}");
    }
}

#[test]
fn an_ipv6_address_that_leads_to_a_private_place_is_not_public() {
    let public = |address: &str| is_public(address.parse().unwrap());
    for private in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1"] {
        let [a, b, c, d] = private.parse::<std::net::Ipv4Addr>().unwrap().octets();
        let hex = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
        let inverted = format!("{:02x}{:02x}:{:02x}{:02x}", !a, !b, !c, !d);
        for address in [
            format!("::ffff:{private}"),
            format!("::{private}"),
            format!("::ffff:0:{private}"),
            format!("64:ff9b::{private}"),
            format!("64:ff9b:1::{private}"),
            format!("2002:{hex}::1"),
            format!("2001:0:808:808:0:0:{inverted}"),
        ] {
            assert!(!public(&address), "{address}");
        }
    }
    for private in
        ["::1", "::", "::8.8.8.8", "fe80::1", "fec0::1", "feff::1", "fc00::1", "fd00::1", "ff02::1", "100::1"]
    {
        assert!(!public(private), "{private}");
    }
    for address in ["2606:4700::1111", "64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7", "8.8.8.8"] {
        assert!(public(address), "{address}");
    }
}

#[test]
fn maxminds_nested_schema_is_read() {
    let london = lookup(&open(CITY).unwrap(), "81.2.69.142");
    assert_eq!(london.country.as_deref(), Some("GB"));
    assert_eq!(london.city.as_deref(), Some("London"));
    assert_eq!(london.region.as_deref(), Some("England"));
    assert_eq!(london.continent.as_deref(), Some("EU"));
    assert_eq!(london.timezone.as_deref(), Some("Europe/London"));
    assert_eq!(london.point(), Some((51.5142, -0.0931)));
    assert!(!london.is_eu);
    let sweden = lookup(&open(COUNTRY).unwrap(), "89.160.20.128");
    assert_eq!((sweden.country.as_deref(), sweden.is_eu), (Some("SE"), true));
    assert_eq!(lookup(&open(CITY).unwrap(), "8.8.8.8").city, None);
}

#[test]
fn flat_city_and_asn_databases_of_one_family_are_read() {
    let city = json!({"city": "Tokyo", "country_code": "JP", "latitude": 35.6895, "longitude": 139.69171,
                      "postcode": "151-0052", "state1": "Tokyo", "timezone": "Asia/Tokyo"});
    let tokyo = open(&database(4, &[[1, 1], [DATA, DATA]], &city)).unwrap();
    let found = lookup(&tokyo, "133.11.0.1");
    assert_eq!((found.city.as_deref(), found.postal.as_deref()), (Some("Tokyo"), Some("151-0052")));
    assert_eq!(found.point(), Some((35.6895, 139.69171)));
    assert_eq!(lookup(&tokyo, "2001:4860:4860::8888"), Location::default(), "no IPv6 in it, and no error");

    let asn = json!({"autonomous_system_number": 2501, "autonomous_system_organization": "The University of Tokyo"});
    let asn = open(&database(6, &[[DATA, DATA]], &asn)).unwrap();
    let found = lookup(&asn, "2001:200::1");
    assert_eq!((found.asn, found.as_organization.as_deref()), (Some(2501), Some("The University of Tokyo")));
}

#[test]
fn files_that_are_no_such_database_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("geo.mmdb");
    let message = || Database::open(&path).unwrap_err().to_string();
    assert!(message().contains("geo.mmdb"), "missing: {}", message());
    for text in [&b""[..], b"hello", b"\xab\xcd\xefMaxMind.com", &COUNTRY[..COUNTRY.len() / 2]] {
        fs::write(&path, text).unwrap();
        assert!(message().contains("damaged or not in MaxMind DB format"), "{}", message());
        assert!(message().contains("geo.mmdb"));
    }
    fs::write(&path, database(4, &[[DATA, DATA]], &json!({"connection_type": "Cable/DSL"}))).unwrap();
    assert!(message().contains("type `Test` and has no field that is known"), "{}", message());
    assert!(matches!(Database::open(folder.path()), Err(GeoError::Io { .. })));
    fs::write(&path, CITY).unwrap();
    assert_eq!(Database::open(&path).unwrap().database_type(), "GeoIP2-City");
}

#[test]
fn a_tree_with_cycles_or_bad_pointers_is_refused() {
    let record = json!({"country_code": "US"});
    let fault = |nodes: &[[usize; 2]]| open(&database(4, nodes, &record)).unwrap_err().to_string();
    assert!(fault(&[[DATA, 9_999_999]]).contains("invalid location"), "past the data");
    assert!(fault(&[[DATA, 3]]).contains("invalid location"), "into the separator");
    let deep: Vec<_> = (0..33).map(|n| [n + 1, DATA]).collect();
    assert!(fault(&deep).contains("deeper than 32 bits"));
    // A node that leads to itself: visited once, and no address gets anywhere through it.
    let own = open(&database(4, &[[0, DATA]], &record)).unwrap();
    assert_eq!(country(&own, "128.0.0.1").as_deref(), Some("US"));
    assert_eq!(country(&own, "1.0.0.1"), Some("US".to_owned()), "the first 1 bit ends the circle");
    // Two ways from each node to the next: 2^96 paths, and no hang.
    let braid: Vec<_> = (0..100).map(|n| if n < 99 { [n + 1, n + 1] } else { [DATA, DATA] }).collect();
    assert!(open(&database(6, &braid, &record)).is_ok());
}

/// Whatever is in the bytes: opening ends with a database or an error, and so does every lookup.
fn survive(bytes: &[u8]) {
    let addresses =
        ["81.2.69.142", "89.160.20.128", "2001:480:10::1", "255.255.255.254", "1.0.0.1", "2002:5102:458e::"];
    let addresses = addresses.map(|address| address.parse::<IpAddr>().unwrap());
    if let Ok(database) = open(bytes) {
        for address in addresses {
            database.lookup(address).expect("a database that was opened has only sound records");
        }
    }
    // What was not verified, as the reader alone would take it.
    if let Ok(reader) = Reader::from_source(bytes) {
        for address in addresses {
            if let Ok(Some(record)) = read(&reader, address) {
                record.location();
            }
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_survived() {
    for length in (0..CITY.len()).step_by(97) {
        survive(&CITY[..length]);
        assert!(open(&CITY[..length]).is_err());
    }
}

#[test]
fn data_that_contains_itself_is_an_error_and_not_a_stack_overflow() {
    // The record is a map {"names": pointer to the record itself}: pointer type 1, 11 bits, to offset 0.
    let mut bytes = database(4, &[[DATA, DATA]], &json!({"subdivisions": "XX"}));
    let at = bytes.windows(3).position(|w| w == b"\x42XX").unwrap();
    bytes[at..at + 2].copy_from_slice(&[0x20, 0x00]);
    bytes[at + 2] = 0x40;
    survive(&bytes);
    assert!(open(&bytes).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn flipped_bytes_are_survived(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40), city: bool) {
        let mut bytes = if city { CITY } else { COUNTRY }.to_vec();
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        survive(&bytes);
    }

    #[test]
    fn damaged_metadata_is_survived(at in 0usize..400, value: u8, cut in 0usize..3) {
        let mut bytes = COUNTRY.to_vec();
        let length = bytes.len();
        bytes[length - 1 - at] = value;
        bytes.truncate(length - cut);
        survive(&bytes);
    }

    #[test]
    fn random_bytes_before_the_metadata_are_survived(noise in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let sound = database(6, &[[DATA, DATA]], &json!({"country_code": "US"}));
        survive(&[&noise[..], &sound[16..]].concat());
    }
}
