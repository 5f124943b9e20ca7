//! Where an address is, where places are, and how far apart.
//!
//! [`Database`] reads the MaxMind format in both schemas in use, MaxMind's nested one and the flat one of
//! ip-location-db, with country, city or ASN records; the crate carries a public-domain country database, so that
//! geolocation works with nothing installed. The rest of the module is small tables and spherical geometry: countries,
//! the cities PoPs stand in, distances and the round trips they cost.
//!
//! A point is latitude and longitude in degrees, north and east positive.

mod cities;
mod countries;
mod database;
mod distance;
mod record;
mod value;
mod verify;

use serde::Serialize;

pub use self::cities::{City, cities, city};
pub use self::database::{Database, GeoError, MAX_DATABASE_BYTES, is_public};
pub use self::distance::{distance_km, nearest, region_for, round_trip};

/// What is known about where an address is. Everything is absent for an address that is not public or not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Location {
    /// ISO 3166-1 two-letter code, upper case.
    pub country: Option<String>,
    /// `AF`, `AN`, `AS`, `EU`, `NA`, `OC` or `SA`; from the country when the database has none.
    pub continent: Option<String>,
    /// English name of the first-order subdivision.
    pub region: Option<String>,
    /// English name.
    pub city: Option<String>,
    /// Postal code.
    pub postal: Option<String>,
    /// Degrees north, -90 to 90. The database's own: see [`point`](Self::point) for a guess by country.
    pub latitude: Option<f64>,
    /// Degrees east, -180 to 180. Present exactly when the latitude is.
    pub longitude: Option<f64>,
    /// IANA name, such as `Europe/London`.
    pub timezone: Option<String>,
    /// Number of the autonomous system that announces the address.
    pub asn: Option<u32>,
    /// Name of the organization behind that.
    pub as_organization: Option<String>,
    /// Whether the country is a member of the European Union.
    pub is_eu: bool,
}

impl Location {
    /// The best known point: the database's, or else the centre of the country.
    pub fn point(&self) -> Option<(f64, f64)> {
        let exact = self.latitude.zip(self.longitude);
        exact.or_else(|| country_center(self.country.as_deref()?))
    }
}

/// Where the people of a country are, roughly: see [`Location::point`]. `iso2` is its two-letter code in upper case.
pub fn country_center(iso2: &str) -> Option<(f64, f64)> {
    countries::country(iso2).map(|country| country.center)
}

/// The continent of a country, as in [`Location::continent`]. `iso2` is its two-letter code in upper case.
pub fn continent(iso2: &str) -> Option<&'static str> {
    countries::country(iso2).map(|country| country.continent)
}
