//! Distances on the globe, and choices by distance.

use std::time::Duration;

use super::Location;

/// Mean radius of the earth (IUGG), in kilometres.
const EARTH_RADIUS_KM: f64 = 6371.0088;

/// Light in glass fibre goes at about two thirds of its speed in vacuum: kilometres per second.
const FIBRE_KM_PER_SECOND: f64 = 299_792.458 * 2.0 / 3.0;

/// Great-circle distance between two points, in kilometres, on a spherical earth (within 0.6 % of the real one).
///
/// Coordinates that are not finite give a distance that is not a number, which sorts after every other.
pub fn distance_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let half = |angle: f64| (angle / 2.0).sin().powi(2);
    let haversine = half(lat_b - lat_a) + lat_a.cos() * lat_b.cos() * half((b.1 - a.1).to_radians());
    // Rounding may carry antipodes a little over 1.
    2.0 * EARTH_RADIUS_KM * haversine.clamp(0.0, 1.0).sqrt().asin()
}

/// Time for a packet and its answer over the great circle in fibre, plus `hop` for all the equipment between.
pub fn round_trip(a: (f64, f64), b: (f64, f64), hop: Duration) -> Duration {
    let seconds = 2.0 * distance_km(a, b) / FIBRE_KM_PER_SECOND;
    Duration::try_from_secs_f64(seconds).unwrap_or_default().saturating_add(hop)
}

/// The name of the candidate nearest to `point`; of several equally near, the first by name, so that every PoP chooses
/// alike whatever order it learnt them in. `None` when there is no candidate.
pub fn nearest<'a>(point: (f64, f64), candidates: impl IntoIterator<Item = (&'a str, (f64, f64))>) -> Option<&'a str> {
    let distances = candidates.into_iter().map(|(name, place)| (distance_km(point, place).abs(), name));
    distances.min_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1))).map(|(_, name)| name)
}

/// The region that serves a client at `location`: the nearest to its best known [point](Location::point). `None` when
/// the location is unknown, so that the caller's default applies, or when there are no regions.
pub fn region_for<'a, S: AsRef<str>>(location: &Location, regions: &'a [(S, (f64, f64))]) -> Option<&'a str> {
    nearest(location.point()?, regions.iter().map(|(name, place)| (name.as_ref(), *place)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::geo::city;

    fn point(code: &str) -> (f64, f64) {
        city(code).unwrap().point()
    }

    #[test]
    fn known_distances_come_out() {
        // Great-circle distances as published for these airports, in kilometres.
        for (a, b, km) in
            [("lhr", "iad", 5_920.0), ("lhr", "nrt", 9_600.0), ("iad", "nrt", 10_870.0), ("syd", "per", 3_280.0)]
        {
            let distance = distance_km(point(a), point(b));
            assert!((distance - km).abs() < km * 0.01, "{a} {b} {distance}");
        }
        assert!((distance_km((0.0, 0.0), (0.0, 180.0)) - 20_015.1).abs() < 0.1);
        assert!((distance_km((90.0, 0.0), (-90.0, 77.0)) - 20_015.1).abs() < 0.1);
        assert!(distance_km((10.0, 179.9), (10.0, -179.9)) < 30.0, "across the date line");
    }

    #[test]
    fn a_round_trip_is_light_in_fibre_there_and_back() {
        let trip = round_trip(point("lhr"), point("iad"), Duration::from_millis(2));
        assert!((60..63).contains(&trip.as_millis()), "{trip:?}");
        assert_eq!(round_trip((1.0, 1.0), (1.0, 1.0), Duration::from_millis(2)), Duration::from_millis(2));
        assert_eq!(round_trip((f64::NAN, 1.0), (1.0, 1.0), Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn the_nearest_is_chosen_and_ties_go_by_name() {
        let pops = || ["lhr", "iad", "nrt"].map(|code| (code, point(code)));
        assert_eq!(nearest((35.6, 137.5), pops()), Some("nrt"));
        assert_eq!(nearest((50.9, 9.7), pops()), Some("lhr"));
        assert_eq!(nearest((0.0, 0.0), [("b", (0.0, 1.0)), ("a", (0.0, -1.0)), ("c", (1.0, 0.0))]), Some("a"));
        assert_eq!(nearest((0.0, 0.0), [("bad", (f64::NAN, 0.0)), ("far", (0.0, 180.0))]), Some("far"));
        assert_eq!(nearest((0.0, 0.0), []), None);
    }

    #[test]
    fn a_region_is_chosen_by_city_else_by_country() {
        let regions =
            [("eu".to_owned(), point("fra")), ("us".to_owned(), point("iad")), ("asia".to_owned(), point("sin"))];
        let mut location = Location::default();
        assert_eq!(region_for(&location, &regions), None);
        location.country = Some("JP".to_owned());
        assert_eq!(region_for(&location, &regions), Some("asia"));
        (location.latitude, location.longitude) = (Some(40.7), Some(-74.0));
        assert_eq!(region_for(&location, &regions), Some("us"));
        assert_eq!(region_for::<&str>(&location, &[]), None);
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in (-90f64..90.0, -180f64..180.0), b in (-90f64..90.0, -180f64..180.0), c in (-90f64..90.0, -180f64..180.0)) {
            let (ab, ba) = (distance_km(a, b), distance_km(b, a));
            prop_assert!((ab - ba).abs() < 1e-6);
            prop_assert!((0.0..20_016.0).contains(&ab));
            prop_assert!(distance_km(a, a) < 1e-6);
            prop_assert!(ab <= distance_km(a, c) + distance_km(c, b) + 1e-3);
        }
    }
}
