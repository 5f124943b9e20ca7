//! What `up` prints when everything runs: where things are, and what to try.

use std::fmt::Write as _;
use std::path::Path;

use origin::bundle::{FunctionName, RoutePattern};

use crate::fleet::Fleet;
use crate::table::{Align, Table};
use crate::units::show_ms;

/// A function and the requests it answers.
pub(crate) type Live = (FunctionName, Vec<RoutePattern>);

/// Requests that show what the example functions do: function, path, curl line with `{pop}` and `{front}` for
/// addresses and `{skerry}` for this program, explanation. A function without an entry gets a plain line.
const TRY: [(&str, &str, &str, &str); 7] = [
    ("hello", "/hello", "curl -i http://{pop}/hello", "an isolate in the first PoP"),
    (
        "auth",
        "/auth/profile",
        "curl -i -H \"Authorization: Bearer $({skerry} jwt sign)\" http://{pop}/auth/profile",
        "a verified token; 401 without one",
    ),
    (
        "geo",
        "/geo/",
        "curl -H 'X-Forwarded-For: 133.11.0.1' http://{front}/geo/",
        "a client in Japan, at the front door",
    ),
    (
        "limited",
        "/limited/",
        "for i in 1 2 3 4 5 6 7 8; do curl -si http://{pop}/limited/ | head -1; done",
        "until 429",
    ),
    ("ab", "/ab/", "curl -i http://{pop}/ab/", "a cohort, sticky by its cookie"),
    ("site", "/site/logo.png", "curl -so /dev/null -D - http://{pop}/site/logo.png", "Cache-Status: miss, then hit"),
    ("site", "/site/logo.png", "{skerry} bench /site/logo.png", "the PoP against the origin, with their distances"),
];

/// The table of addresses.
pub(crate) fn addresses(fleet: &Fleet) -> Table {
    let left = Align::Left;
    let mut table =
        Table::new(&[("PART", left), ("CITY", left), ("ADDRESS", left), ("TO ORIGIN", Align::Right), ("LOG", left)]);
    let folder = fleet.state.parent().unwrap_or(Path::new("/"));
    let log = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
    let city = |place: &crate::fleet::Place| format!("{}, {}", place.city, place.country);
    table.row(["front door", "", &format!("http://{}", fleet.front)]);
    for pop in &fleet.pops {
        let far = if fleet.distance { show_ms(pop.origin_rtt_ms) } else { "loopback".to_owned() };
        let address = format!("http://{}", pop.address);
        table.row([format!("PoP {}", pop.name), city(&pop.place), address, far, log(&pop.log)]);
    }
    let origin = &fleet.origin;
    let address = format!("http://{}", origin.address);
    table.row(["origin".to_owned(), city(&origin.place), address, String::new(), log(&origin.log)]);
    let token = format!("token in {}", log(&fleet.token_file));
    table.row(["admin API".to_owned(), String::new(), format!("http://{}", fleet.admin), String::new(), token]);
    table
}

/// Lines to paste into a shell, one for every live function.
pub(crate) fn try_lines(fleet: &Fleet, live: &[Live], program: &str) -> String {
    let pop = fleet.pops.first().map_or(fleet.front, |pop| pop.address);
    let fill = |line: &str| {
        line.replace("{pop}", &pop.to_string())
            .replace("{front}", &fleet.front.to_string())
            .replace("{skerry}", program)
    };
    let mut text = String::new();
    for (name, routes) in live {
        let answers =
            |path: &str| routes.iter().any(|route| route.matches_host("localhost") && route.matches_path(path));
        let known: Vec<_> = TRY.iter().filter(|(known, path, ..)| *known == name.as_str() && answers(path)).collect();
        for (_, _, line, why) in &known {
            let _ = writeln!(text, "  {}   # {why}", fill(line));
        }
        if known.is_empty()
            && let Some(route) = routes.first()
        {
            let _ = writeln!(text, "  {}   # {name}", fill(&plain(route)));
        }
    }
    text
}

/// A request that a route answers.
fn plain(route: &RoutePattern) -> String {
    let pattern = route.to_string();
    let path = pattern.find('/').map_or("/", |slash| &pattern[slash..]).trim_end_matches('*');
    match route.host() {
        "*" => format!("curl -i http://{{pop}}{path}"),
        host => format!("curl -i -H 'Host: {}' http://{{pop}}{path}", host.replace("*.", "www.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(name: &str, route: &str) -> Live {
        (name.parse().unwrap(), vec![route.parse().unwrap()])
    }

    #[test]
    fn every_address_is_in_the_table() {
        let fleet = crate::fleet::tests::example(Path::new("/home/me/.skerry"));
        let text = addresses(&fleet).to_string();
        assert!(text.contains("PoP lhr") && text.contains("8.50 ms") && text.contains(".skerry/admin.token"), "{text}");
    }

    #[test]
    fn examples_get_a_telling_request_and_other_functions_a_plain_one() {
        let fleet = crate::fleet::tests::example(Path::new("/home/me/.skerry"));
        let functions = [
            live("hello", "*/hello"),
            live("auth", "*/auth/*"),
            live("geo", "*/elsewhere"),
            live("mine", "*.x.org/a/*"),
        ];
        let text = try_lines(&fleet, &functions, "./skerry");
        assert!(text.contains("curl -i http://127.0.0.1:1/hello   #"), "{text}");
        assert!(text.contains("$(./skerry jwt sign)"), "{text}");
        assert!(text.contains("http://127.0.0.1:1/elsewhere   # geo"), "{text}");
        assert!(text.contains("-H 'Host: www.x.org' http://127.0.0.1:1/a/   # mine"), "{text}");
    }
}
