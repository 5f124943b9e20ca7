//! What `up` prints when everything runs: where things are, and what to try.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use origin::bundle::{FunctionName, RoutePattern};

use super::child::shell;
use crate::fleet::{Fleet, STATE};
use crate::table::{Align, Table};
use crate::units::show_ms;

/// A function and the requests it answers.
pub(crate) type Live = (FunctionName, Vec<RoutePattern>);

/// How a person calls this program from where they are.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The program, as it was called.
    pub program: String,
    /// The working folder, absolute.
    pub here: PathBuf,
    /// Arguments of `jwt sign` that make a token for the function `auth`; `None` when its folder is not known.
    pub sign: Option<Vec<String>>,
}

/// Requests that show what the example functions do: function, path, shell line with `{pop}` and `{front}` for addresses,
/// `{sign}` and `{bench}` for commands of this program, explanation. A function without an entry gets a plain line.
const TRY: [(&str, &str, &str, &str); 7] = [
    ("hello", "/hello", "curl -i http://{pop}/hello", "an isolate in the first PoP"),
    (
        "auth",
        "/auth/profile",
        "curl -i -H \"Authorization: Bearer $({sign})\" http://{pop}/auth/profile",
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
    ("site", "/site/logo.png", "{bench} /site/logo.png", "the PoP against the origin, with their distances"),
];

/// The table of addresses, with files as they are found from `here`.
pub(crate) fn addresses(fleet: &Fleet, here: &Path) -> Table {
    let left = Align::Left;
    let mut table =
        Table::new(&[("PART", left), ("CITY", left), ("ADDRESS", left), ("TO ORIGIN", Align::Right), ("LOG", left)]);
    let log = |path: &Path| near(path, here).display().to_string();
    let city = |place: &crate::fleet::Place| format!("{}, {}", place.city, place.country);
    table.row(["front door", "", &format!("http://{}", fleet.front)]);
    let nodes = fleet.pops.iter().map(|pop| ("PoP", pop)).chain(fleet.regions.iter().map(|region| ("region", region)));
    for (kind, pop) in nodes {
        let far = if fleet.distance { show_ms(pop.origin_rtt_ms) } else { "loopback".to_owned() };
        let address = format!("http://{}", pop.address);
        table.row([format!("{kind} {}", pop.name), city(&pop.place), address, far, log(&pop.log)]);
    }
    let origin = &fleet.origin;
    let address = format!("http://{}", origin.address);
    table.row(["origin".to_owned(), city(&origin.place), address, String::new(), log(&origin.log)]);
    let token = format!("token in {}", log(&fleet.token_file));
    table.row(["admin API".to_owned(), String::new(), format!("http://{}", fleet.admin), String::new(), token]);
    table
}

/// A path as short as it can be written from `here`.
fn near<'p>(path: &'p Path, here: &Path) -> &'p Path {
    path.strip_prefix(here).unwrap_or(path)
}

/// Lines to paste into a shell, one for every live function and one for the metrics, each under its explanation: a comment behind it would be
/// arguments in an interactive zsh.
pub(crate) fn try_lines(fleet: &Fleet, live: &[Live], call: &Call) -> String {
    let pop = fleet.pops.first().map_or(fleet.front, |pop| pop.address);
    let command = |words: &[&str]| {
        let words = std::iter::once(call.program.as_str()).chain(words.iter().copied());
        shell(&words.map(str::to_owned).collect::<Vec<_>>())
    };
    let state = near(&fleet.state, &call.here).to_string_lossy().into_owned();
    let bench = if state == STATE { command(&["bench"]) } else { command(&["bench", "--state", &state]) };
    let sign = call.sign.as_ref().map(|more| {
        let more = more.iter().map(String::as_str);
        command(&["jwt", "sign"].into_iter().chain(more).collect::<Vec<_>>())
    });
    // An IPv6 address has brackets, which a shell takes for a pattern.
    let fill = |line: &str| {
        line.replace("{pop}", &shell(&[pop.to_string()]))
            .replace("{front}", &shell(&[fleet.front.to_string()]))
            .replace("{bench}", &bench)
            .replace("{sign}", sign.as_deref().unwrap_or_default())
    };
    let host = pop.ip().to_string();
    let mut text = String::new();
    for (name, routes) in live {
        // What curl puts into Host is the address it is given.
        let answers = |path: &str| routes.iter().any(|route| route.matches_host(&host) && route.matches_path(path));
        let possible = |line: &str| sign.is_some() || !line.contains("{sign}");
        let known: Vec<_> = TRY
            .iter()
            .filter(|(known, path, line, _)| *known == name.as_str() && answers(path) && possible(line))
            .collect();
        for (_, _, line, why) in &known {
            let _ = writeln!(text, "  {name}: {why}\n    {}", fill(line));
        }
        if known.is_empty()
            && let Some(route) = routes.first()
        {
            let _ = writeln!(text, "  {name}\n    {}", fill(&plain(route)));
        }
    }
    if let Some(pop) = fleet.pops.first() {
        let token = shell(&[near(&fleet.token_file, &call.here).to_string_lossy().into_owned()]);
        let url = shell(&[format!("http://{}/metrics", pop.admin)]);
        let _ = writeln!(text, "  metrics of {}\n    curl -H \"Authorization: Bearer $(cat {token})\" {url}", pop.name);
    }
    text
}

/// A request that a route answers.
fn plain(route: &RoutePattern) -> String {
    let pattern = route.to_string();
    let path = pattern.find('/').map_or("/", |slash| &pattern[slash..]).trim_end_matches('*');
    let path = shell(&[path.to_owned()]);
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

    fn call(here: &str, sign: Option<&[&str]>) -> Call {
        let sign = sign.map(|more| more.iter().map(|word| (*word).to_owned()).collect());
        Call { program: "./skerry".to_owned(), here: here.into(), sign }
    }

    #[test]
    fn every_address_is_in_the_table_and_files_are_found_from_where_one_is() {
        let fleet = crate::fleet::tests::example(Path::new("/srv/me/.skerry"));
        let text = addresses(&fleet, Path::new("/srv/me")).to_string();
        assert!(
            text.contains("PoP lhr") && text.contains("8.50 ms") && text.contains(" .skerry/admin.token"),
            "{text}"
        );
        let elsewhere = addresses(&fleet, Path::new("/srv/you")).to_string();
        assert!(elsewhere.contains(" /srv/me/.skerry/admin.token"), "{elsewhere}");
    }

    #[test]
    fn examples_get_a_telling_request_and_other_functions_a_plain_one() {
        let fleet = crate::fleet::tests::example(Path::new("/srv/me/.skerry"));
        let functions = [
            live("hello", "*/hello"),
            live("auth", "*/auth/*"),
            live("geo", "*/elsewhere"),
            live("site", "localhost/site/*"),
            live("mine", "*.x.org/a/*"),
        ];
        let text = try_lines(&fleet, &functions, &call("/srv/me", Some(&[])));
        assert!(text.contains("\n    curl -i http://127.0.0.1:1/hello\n"), "{text}");
        assert!(text.contains("$(./skerry jwt sign)"), "{text}");
        assert!(text.contains("  geo\n    curl -i http://127.0.0.1:1/elsewhere\n"), "{text}");
        assert!(text.contains("  mine\n    curl -i -H 'Host: www.x.org' http://127.0.0.1:1/a/\n"), "{text}");
        assert!(text.contains("  site\n    curl -i -H 'Host: localhost' http://127.0.0.1:1/site/\n"), "{text}");
        assert!(text.ends_with("$(cat .skerry/admin.token)\" http://127.0.0.1:2/metrics\n"), "{text}");
        assert!(!text.contains('#'), "an interactive zsh takes comments for arguments: {text}");
    }

    #[test]
    fn commands_say_where_things_are_that_are_not_where_they_would_be_looked_for() {
        let fleet = crate::fleet::tests::example(Path::new("/tmp/my state"));
        let functions = [live("auth", "*/auth/*"), live("site", "*/site/*")];
        let far = Call {
            program: "/opt/my tools/skerry".to_owned(),
            ..call("/srv/me", Some(&["--function", "my functions/auth"]))
        };
        let text = try_lines(&fleet, &functions, &far);
        assert!(text.contains("'/opt/my tools/skerry' jwt sign --function 'my functions/auth')"), "{text}");
        assert!(text.contains("'/opt/my tools/skerry' bench --state '/tmp/my state' /site/logo.png"), "{text}");
        let unknown = try_lines(&fleet, &functions, &call("/srv/me", None));
        assert!(unknown.contains("  auth\n    curl -i http://127.0.0.1:1/auth/\n"), "{unknown}");
    }
}
