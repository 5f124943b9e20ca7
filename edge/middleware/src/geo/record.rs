//! One record of a database, whatever its schema.
//!
//! Two are in use. MaxMind's nests: `country.iso_code`, `city.names.en`, `location.latitude`. The free databases of
//! ip-location-db are flat: `country_code`, `city`, `latitude`, `state1`, all at the top. Decoding one as the other
//! yields nothing at all and no error, so this type reads both, field by field, and is lenient about each: a field of
//! an unexpected type is absent (see [`value`](super::value)).

use serde::Deserialize;

use super::value::{First, Value};
use super::{Location, continent, countries};

/// Everything either schema says about an address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    // Both schemas: text in the flat one, a map in the nested one.
    country: Value<Place>,
    continent: Value<Place>,
    city: Value<Place>,
    postal: Value<Place>,
    // Flat, under the names that various databases use.
    country_code: Value,
    continent_code: Value,
    postcode: Value,
    state1: Value,
    region: Value,
    latitude: Value,
    longitude: Value,
    timezone: Value,
    time_zone: Value,
    asn: Value,
    as_number: Value,
    autonomous_system_number: Value,
    as_name: Value,
    as_organization: Value,
    autonomous_system_organization: Value,
    // Nested.
    subdivisions: First<Value<Place>>,
    location: Value<Coordinates>,
    traits: Value<Traits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place {
    iso_code: Value,
    code: Value,
    names: Value<Names>,
    is_in_european_union: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Names {
    en: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Coordinates {
    latitude: Value,
    longitude: Value,
    time_zone: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Traits {
    autonomous_system_number: Value,
    autonomous_system_organization: Value,
}

const CONTINENTS: [&str; 7] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"];

impl Record {
    /// What this record says, completed from the table of countries.
    pub(super) fn location(&self) -> Location {
        let country = self.country();
        let (latitude, longitude) = self.point().unzip();
        Location {
            continent: self.continent(country.as_deref()),
            region: first([self.subdivisions.0.name(), self.state1.text(), self.region.text()]),
            city: first([self.city.name()]),
            postal: first([self.postal.of(|place| &place.code), self.postcode.text(), self.postal.text()]),
            latitude,
            longitude,
            timezone: first([self.location.of(|at| &at.time_zone), self.timezone.text(), self.time_zone.text()]),
            asn: self.asn(),
            as_organization: first([
                self.autonomous_system_organization.text(),
                self.traits.of(|traits| &traits.autonomous_system_organization),
                self.as_organization.text(),
                self.as_name.text(),
            ]),
            is_eu: self.is_eu(country.as_deref()),
            country,
        }
    }

    /// Two letters in upper case. `ZZ` and `XX` are how databases say that they do not know.
    fn country(&self) -> Option<String> {
        let given = [self.country.of(|place| &place.iso_code), self.country_code.text(), self.country.text()];
        let code = |text: &str| {
            let letters = text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic());
            letters.then(|| text.to_ascii_uppercase()).filter(|code| code != "ZZ" && code != "XX")
        };
        given.into_iter().flatten().find_map(code)
    }

    fn continent(&self, country: Option<&str>) -> Option<String> {
        let given = [self.continent.of(|place| &place.code), self.continent_code.text(), self.continent.text()];
        let given = given.into_iter().flatten().find(|code| CONTINENTS.contains(code));
        given.or_else(|| country.and_then(continent)).map(str::to_owned)
    }

    fn is_eu(&self, country: Option<&str>) -> bool {
        let given = self.country.fields().and_then(|place| place.is_in_european_union.flag());
        given.unwrap_or_else(|| country.is_some_and(countries::in_european_union))
    }

    /// Both coordinates of one schema or none: half a point is no point.
    fn point(&self) -> Option<(f64, f64)> {
        let nested = || {
            let at = self.location.fields()?;
            Some((at.latitude.within(90.0)?, at.longitude.within(180.0)?))
        };
        let flat = || Some((self.latitude.within(90.0)?, self.longitude.within(180.0)?));
        nested().or_else(flat)
    }

    /// An autonomous system's number: `15169`, `"15169"` or `"AS15169"`. 0 is reserved and stands for none.
    fn asn(&self) -> Option<u32> {
        let nested = self.traits.fields().map(|traits| &traits.autonomous_system_number);
        let given = [Some(&self.autonomous_system_number), nested, Some(&self.asn), Some(&self.as_number)];
        let number = |value: &Value| {
            let text = value.text().map(|text| text.strip_prefix("AS").unwrap_or(text));
            value.whole().or_else(|| text?.parse().ok()).filter(|&number| number > 0)
        };
        given.into_iter().flatten().find_map(number)
    }
}

impl Value<Place> {
    /// The text itself, or `names.en` of a map.
    fn name(&self) -> Option<&str> {
        self.text().or_else(|| self.fields()?.names.of(|names| &names.en))
    }
}

/// The first text that says something.
fn first<const N: usize>(texts: [Option<&str>; N]) -> Option<String> {
    texts.into_iter().flatten().find(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn check(record: Json, expect: Json) {
        let read: Record = serde_json::from_value(record.clone()).unwrap();
        let location = serde_json::to_value(read.location()).unwrap();
        let said: serde_json::Map<String, Json> =
            location.as_object().unwrap().clone().into_iter().filter(|(_, v)| !v.is_null() && *v != false).collect();
        assert_eq!(Json::from(said), expect, "{record}");
    }

    #[test]
    fn both_schemas_are_read() {
        check(json!({"country_code": "jp"}), json!({"country": "JP", "continent": "AS"}));
        check(
            json!({"city": "Köln", "country_code": "DE", "latitude": 50.9, "longitude": "6.95", "postcode": "50667",
                   "state1": "Nordrhein-Westfalen", "state2": "", "timezone": "Europe/Berlin"}),
            json!({"city": "Köln", "country": "DE", "continent": "EU", "is_eu": true, "latitude": 50.9,
                   "longitude": 6.95, "postal": "50667", "region": "Nordrhein-Westfalen", "timezone": "Europe/Berlin"}),
        );
        check(
            json!({"country": {"iso_code": "GB", "names": {"en": "United Kingdom"}}, "continent": {"code": "EU"},
                   "city": {"names": {"de": "L", "en": "London"}}, "postal": {"code": "SW1"},
                   "location": {"latitude": 51.5, "longitude": -0.1, "time_zone": "Europe/London", "metro_code": 3},
                   "subdivisions": [{"names": {"en": "England"}}, {"names": {"en": "Kent"}}],
                   "traits": {"autonomous_system_number": 20712, "autonomous_system_organization": "A&A"}}),
            json!({"asn": 20712, "as_organization": "A&A", "city": "London", "country": "GB", "continent": "EU",
                   "latitude": 51.5, "longitude": -0.1, "postal": "SW1", "region": "England", "timezone": "Europe/London"}),
        );
    }

    #[test]
    fn asn_records_are_read_in_every_spelling() {
        let expect = json!({"asn": 15169, "as_organization": "GOOGLE"});
        check(json!({"autonomous_system_number": 15169, "autonomous_system_organization": "GOOGLE"}), expect.clone());
        check(json!({"autonomous_system_number": "15169", "as_organization": "GOOGLE"}), expect.clone());
        check(json!({"asn": "AS15169", "as_name": "GOOGLE"}), expect);
        check(json!({"asn": 0, "as_number": -1}), json!({}));
        check(json!({"asn": 4294967296u64, "as_number": 1.5}), json!({}));
    }

    #[test]
    fn fields_of_the_wrong_type_are_absent() {
        for odd in
            [json!(null), json!(true), json!(7), json!([[["x"]]]), json!({"a": {"names": []}}), json!("x".repeat(999))]
        {
            for field in
                ["country", "city", "latitude", "location", "subdivisions", "traits", "asn", "timezone", "postal"]
            {
                let record: Record = serde_json::from_value(json!({field: odd})).unwrap();
                record.location();
            }
        }
        check(json!({"latitude": 91, "longitude": 0}), json!({}));
        check(json!({"latitude": 9}), json!({}));
        check(json!({"country_code": "ZZ", "country": "Japan", "city": "a\nb"}), json!({}));
    }

    #[test]
    fn the_database_decides_who_is_in_the_union_and_the_table_when_it_is_silent() {
        check(
            json!({"country": {"iso_code": "GB", "is_in_european_union": true}}),
            json!({"country": "GB", "continent": "EU", "is_eu": true}),
        );
        check(json!({"country": {"iso_code": "FR"}}), json!({"country": "FR", "continent": "EU", "is_eu": true}));
        check(
            json!({"country": {"iso_code": "FR", "is_in_european_union": false}}),
            json!({"country": "FR", "continent": "EU"}),
        );
    }
}
