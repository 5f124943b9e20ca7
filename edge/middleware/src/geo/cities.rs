//! Metropolitan areas that PoPs stand in, by airport code.

/// A metropolitan area, named after its airport as network operators do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct City {
    /// IATA code of the airport, lower case: the usual name of a PoP there.
    pub code: &'static str,
    /// English name.
    pub name: &'static str,
    /// ISO 3166-1 two-letter code, upper case.
    pub country: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

impl City {
    /// Latitude and longitude in degrees.
    pub fn point(&self) -> (f64, f64) {
        (self.latitude, self.longitude)
    }
}

/// The city with this IATA code, in lower case.
pub fn city(code: &str) -> Option<City> {
    CITIES.binary_search_by_key(&code, |city| city.code).ok().map(|index| CITIES[index])
}

/// Every city there is, sorted by code: for the list in an error message.
pub fn cities() -> impl Iterator<Item = City> {
    CITIES.into_iter()
}

const fn row(code: &'static str, name: &'static str, country: &'static str, latitude: f64, longitude: f64) -> City {
    City { code, name, country, latitude, longitude }
}

/// Sorted by code.
#[rustfmt::skip]
const CITIES: [City; 86] = [
    row("akl", "Auckland", "NZ", -37.01, 174.79),
    row("ams", "Amsterdam", "NL", 52.31, 4.76),
    row("arn", "Stockholm", "SE", 59.65, 17.92),
    row("ath", "Athens", "GR", 37.94, 23.94),
    row("atl", "Atlanta", "US", 33.64, -84.43),
    row("bcn", "Barcelona", "ES", 41.3, 2.08),
    row("ber", "Berlin", "DE", 52.36, 13.5),
    row("bkk", "Bangkok", "TH", 13.68, 100.75),
    row("blr", "Bangalore", "IN", 13.2, 77.71),
    row("bog", "Bogotá", "CO", 4.7, -74.15),
    row("bom", "Mumbai", "IN", 19.09, 72.87),
    row("bos", "Boston", "US", 42.36, -71.01),
    row("bru", "Brussels", "BE", 50.9, 4.48),
    row("bud", "Budapest", "HU", 47.44, 19.26),
    row("cai", "Cairo", "EG", 30.12, 31.41),
    row("cdg", "Paris", "FR", 49.01, 2.55),
    row("cgk", "Jakarta", "ID", -6.13, 106.66),
    row("cph", "Copenhagen", "DK", 55.62, 12.66),
    row("cpt", "Cape Town", "ZA", -33.96, 18.6),
    row("del", "Delhi", "IN", 28.57, 77.1),
    row("den", "Denver", "US", 39.86, -104.67),
    row("dfw", "Dallas", "US", 32.9, -97.04),
    row("doh", "Doha", "QA", 25.26, 51.61),
    row("dub", "Dublin", "IE", 53.42, -6.27),
    row("dxb", "Dubai", "AE", 25.25, 55.36),
    row("edi", "Edinburgh", "GB", 55.95, -3.37),
    row("ewr", "New York", "US", 40.69, -74.17),
    row("eze", "Buenos Aires", "AR", -34.82, -58.54),
    row("fco", "Rome", "IT", 41.8, 12.25),
    row("fra", "Frankfurt", "DE", 50.03, 8.54),
    row("gig", "Rio de Janeiro", "BR", -22.81, -43.25),
    row("gru", "São Paulo", "BR", -23.44, -46.47),
    row("ham", "Hamburg", "DE", 53.63, 9.99),
    row("hel", "Helsinki", "FI", 60.32, 24.96),
    row("hkg", "Hong Kong", "HK", 22.31, 113.92),
    row("hnd", "Tokyo", "JP", 35.55, 139.78),
    row("iad", "Washington", "US", 38.95, -77.46),
    row("icn", "Seoul", "KR", 37.47, 126.45),
    row("ist", "Istanbul", "TR", 41.28, 28.75),
    row("jfk", "New York", "US", 40.64, -73.78),
    row("jnb", "Johannesburg", "ZA", -26.13, 28.24),
    row("kbp", "Kyiv", "UA", 50.34, 30.89),
    row("kix", "Osaka", "JP", 34.43, 135.24),
    row("kul", "Kuala Lumpur", "MY", 2.75, 101.71),
    row("lax", "Los Angeles", "US", 33.94, -118.41),
    row("lhr", "London", "GB", 51.47, -0.46),
    row("lim", "Lima", "PE", -12.02, -77.11),
    row("lis", "Lisbon", "PT", 38.78, -9.14),
    row("los", "Lagos", "NG", 6.58, 3.32),
    row("maa", "Chennai", "IN", 12.99, 80.17),
    row("mad", "Madrid", "ES", 40.49, -3.57),
    row("man", "Manchester", "GB", 53.35, -2.27),
    row("mel", "Melbourne", "AU", -37.67, 144.84),
    row("mex", "Mexico City", "MX", 19.44, -99.07),
    row("mia", "Miami", "US", 25.8, -80.29),
    row("mnl", "Manila", "PH", 14.51, 121.02),
    row("mrs", "Marseille", "FR", 43.44, 5.22),
    row("muc", "Munich", "DE", 48.35, 11.79),
    row("mxp", "Milan", "IT", 45.63, 8.73),
    row("nbo", "Nairobi", "KE", -1.32, 36.93),
    row("nrt", "Tokyo", "JP", 35.76, 140.39),
    row("ord", "Chicago", "US", 41.98, -87.91),
    row("osl", "Oslo", "NO", 60.19, 11.1),
    row("otp", "Bucharest", "RO", 44.57, 26.1),
    row("pek", "Beijing", "CN", 40.08, 116.58),
    row("per", "Perth", "AU", -31.94, 115.97),
    row("phx", "Phoenix", "US", 33.43, -112.01),
    row("prg", "Prague", "CZ", 50.1, 14.26),
    row("pvg", "Shanghai", "CN", 31.14, 121.81),
    row("ruh", "Riyadh", "SA", 24.96, 46.7),
    row("scl", "Santiago", "CL", -33.39, -70.79),
    row("sea", "Seattle", "US", 47.45, -122.31),
    row("sfo", "San Francisco", "US", 37.62, -122.38),
    row("sgn", "Ho Chi Minh City", "VN", 10.82, 106.65),
    row("sin", "Singapore", "SG", 1.35, 103.99),
    row("sjc", "San Jose", "US", 37.36, -121.93),
    row("sof", "Sofia", "BG", 42.7, 23.41),
    row("syd", "Sydney", "AU", -33.95, 151.18),
    row("tlv", "Tel Aviv", "IL", 32.01, 34.89),
    row("tpe", "Taipei", "TW", 25.08, 121.23),
    row("vie", "Vienna", "AT", 48.11, 16.57),
    row("waw", "Warsaw", "PL", 52.17, 20.97),
    row("yul", "Montréal", "CA", 45.47, -73.74),
    row("yvr", "Vancouver", "CA", 49.19, -123.18),
    row("yyz", "Toronto", "CA", 43.68, -79.63),
    row("zrh", "Zurich", "CH", 47.46, 8.55),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{country_center, distance_km};

    #[test]
    fn the_table_is_sorted_and_each_city_is_in_its_country() {
        assert!(CITIES.is_sorted_by(|a, b| a.code < b.code));
        for city in cities() {
            let center = country_center(city.country).expect(city.code);
            assert!(distance_km(city.point(), center) < 4_200.0, "{city:?}");
        }
    }

    #[test]
    fn a_city_is_found_by_its_lower_case_code() {
        assert_eq!(city("lhr").map(|city| city.name), Some("London"));
        assert_eq!(city("LHR"), None);
        assert_eq!(city("xxx"), None);
        assert_eq!(city(""), None);
    }
}
