//! A plan as a page: no scripts, nothing from elsewhere, light and dark.

use std::fmt::Write as _;

use super::explain::{crossover, kinds};
use super::{ASSUMPTIONS, Crossover, Kind, Plan};

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6570;--line:#d5dae0;--paper:#fff;--k0:#2f6f4f;--k1:#1f5fa8;--k2:#6aa6dd;--k3:#c77d0a;--k4:#e0b04a;--k5:#8a4fb0;--k6:#c39add;--k7:#c0392b}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa5b1;--line:#39414a;--paper:#14181c;--k0:#5fb58a;--k1:#5b9be6;--k2:#9cc7f0;--k3:#f0a63a;--k4:#f2d08a;--k5:#b98ad8;--k6:#dcc3ee;--k7:#ef7a6d}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}p.big{font-size:1.3rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font:11px system-ui,sans-serif}svg .axis{stroke:var(--line)}
@media(max-width:40rem){svg{overflow:visible}svg text{font-size:21px}th,td{padding:.3rem}}
.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em;border-radius:2px}.key:first-child{margin-left:0}li{margin:.3rem 0}small{color:var(--soft)}
";

/// Everything that means something to HTML, as text.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

/// The page: a whole document, of a plan with this title.
#[must_use]
pub fn html(plan: &Plan, title: &str) -> String {
    let (title, currency) = (escape(title), escape(&plan.currency));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>\n\
         <p class=\"big\">The cheapest mix that keeps the objective costs <b>{} {currency}</b> a month.</p>\n",
        plan.total()
    );
    mix(&mut page, plan);
    section(&mut page, "A typical week", &week(plan));
    section(&mut page, "Where machines get cheaper than Lambda", &crossovers(plan));
    let binding = plan.binding.iter().map(|it| format!("{}: {} {} a month", it.constraint, it.costs, plan.currency));
    list(&mut page, "Constraints that cost something", binding);
    let changes = plan.sensitivity.iter().flat_map(|it| {
        let told = |(factor, then): &(f64, Vec<Kind>)| {
            format!("{} {:+.0} %: {}", it.price, 100.0 * (factor - 1.0), kinds(then))
        };
        it.down.iter().chain(&it.up).map(told).collect::<Vec<_>>()
    });
    list(&mut page, "Prices that would change the mix", changes);
    let fallbacks = plan.fallbacks.iter().map(|it| {
        let then = match &it.then {
            Ok((then, monthly)) => format!("{} for {monthly} {} a month", kinds(then), plan.currency),
            Err(error) => format!("no plan B: {error}"),
        };
        format!("{} lost (up to {:.0} % at once): {then}", it.lost, 100.0 * it.at_once)
    });
    list(&mut page, "Plan B", fallbacks);
    comparisons(&mut page, plan);
    list(&mut page, "Who cannot carry what", plan.refusals.iter().map(|it| format!("{}: {it}", it.stream)));
    let doubts = plan.doubts.iter().map(|it| {
        let age = it.stale_days.map_or_else(String::new, |days| format!(", {days} days old"));
        format!("{}: {}{}{age}", it.source, it.text, if it.unverified { ", unverified" } else { "" })
    });
    list(&mut page, "Prices to look at before they are believed", doubts);
    list(&mut page, "Assumptions", ASSUMPTIONS.iter().map(|it| (*it).to_owned()));
    page.push_str("</body></html>\n");
    page
}

fn section(page: &mut String, head: &str, body: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "<h2>{}</h2>\n{body}", escape(head));
}

fn list(page: &mut String, head: &str, items: impl Iterator<Item = String>) {
    let items: String = items.map(|item| format!("<li>{}</li>\n", escape(&item))).collect();
    if !items.is_empty() {
        section(page, head, &format!("<ul>\n{items}</ul>"));
    }
}

fn mix(page: &mut String, plan: &Plan) {
    let mut rows = String::new();
    for part in &plan.mix.parts {
        let _ = writeln!(
            rows,
            "<tr><td><span class=\"key\" style=\"background:var(--k{})\"></span>{}</td><td>{}</td><td class=\"n\">{:.2}</td>\
             <td class=\"n\">{:.0} %</td><td class=\"n\">{}</td></tr>",
            part.kind as usize,
            escape(part.kind.as_str()),
            escape(&part.name),
            part.count,
            100.0 * part.share,
            part.monthly
        );
    }
    for (money, from) in plan.mix.egress.iter().zip(["own machines", "a region"]) {
        if money.micros() > 0 {
            let _ = writeln!(
                rows,
                "<tr><td colspan=\"4\">Bytes to clients from {from}</td><td class=\"n\">{money}</td></tr>"
            );
        }
    }
    let head = "<tr><th>How</th><th>What</th><th class=\"n\">Number, on average</th><th class=\"n\">Of the work</th><th class=\"n\">";
    section(page, "The mix", &format!("<table>{head}{} a month</th></tr>\n{rows}</table>", escape(&plan.currency)));
}

/// The largest value of an axis: 1, 2 or 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(10.0 * power)
}

/// Processors, hour by hour, by who carries them.
fn week(plan: &Plan) -> String {
    let hours = &plan.mix.hours;
    let top = nice(hours.iter().map(|hour| hour.needed).fold(0.0, f64::max));
    let (width, height) = (840.0, 220.0);
    let step = 5.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Processors needed in each hour of a week\">",
        width + 50.0,
        height + 30.0
    );
    for line in 0..=4 {
        let y = 10.0 + height * (1.0 - f64::from(line) / 4.0);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"45\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"40\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            width + 45.0,
            y + 4.0,
            top * f64::from(line) / 4.0
        );
    }
    for (kind, _) in Kind::ALL.iter().enumerate().filter(|(kind, _)| hours.iter().any(|hour| hour.carried[*kind] > 0.0))
    {
        let mut path = String::new();
        for (index, hour) in (0_u16..).zip(hours) {
            let below: f64 = hour.carried[..kind].iter().sum();
            let (bottom, tall) = (10.0 + height * (1.0 - below / top), height * hour.carried[kind] / top);
            if tall > 0.0 {
                let _ = write!(path, "M{:.0} {bottom:.2}v-{tall:.2}h{step}v{tall:.2}z", 45.0 + f64::from(index) * step);
            }
        }
        let _ = write!(svg, "<path d=\"{path}\" style=\"fill:var(--k{kind})\"/>");
    }
    for (index, day) in (0_u8..).zip(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]) {
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{}\" text-anchor=\"middle\">{day}</text>",
            105.0 + 120.0 * f64::from(index),
            height + 26.0
        );
    }
    let shown = Kind::ALL.iter().filter(|kind| hours.iter().any(|hour| hour.carried[**kind as usize] > 0.0));
    let legend: String = shown
        .map(|kind| {
            format!(
                "<span class=\"key\" style=\"background:var(--k{})\"></span>{}",
                *kind as usize,
                escape(kind.as_str())
            )
        })
        .collect();
    format!(
        "{svg}</svg><p>{legend}</p><p><small>Processors needed in each hour (UTC), by who carries them.</small></p>"
    )
}

/// The beginning of a plot: costs upwards, use of a processor to the right.
fn grid(width: f64, height: f64, top: f64) -> String {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Cost of a processor by its use\">",
        width + 110.0,
        height + 40.0
    );
    for line in 0..=4 {
        let part = f64::from(line) / 4.0;
        let (x, y) = (45.0 + width * part, 10.0 + height * (1.0 - part));
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"45\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"40\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{x:.0}\" y=\"{}\" text-anchor=\"middle\">{:.0} %</text>",
            width + 45.0,
            y + 4.0,
            top * part,
            height + 28.0,
            100.0 * part
        );
    }
    svg
}

/// What a processor costs a month, by how much it is used: Lambda against machines, for the first stream that has them.
fn crossovers(plan: &Plan) -> String {
    let Some(first) = plan.crossovers.iter().find(|it| it.below == Kind::Lambda.as_str()) else {
        return sentences(plan);
    };
    let shown: Vec<&Crossover> =
        plan.crossovers.iter().filter(|it| it.below == first.below && it.stream == first.stream).collect();
    let highest = shown.iter().map(|it| it.monthly[1]).fold(0.0, f64::max) * 1.6;
    let top = nice(highest.min(first.monthly[0]).max(1.0));
    let (width, height) = (780.0, 220.0);
    let mut svg = grid(width, height, top);
    let reach = (top / first.monthly[0]).min(1.0);
    let end = 10.0 + height * (1.0 - first.monthly[0] * reach / top);
    let _ = write!(
        svg,
        "<line x1=\"45\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{end:.1}\" style=\"stroke:var(--k7);stroke-width:2\"/>",
        10.0 + height,
        45.0 + width * reach
    );
    for it in &shown {
        let kind = Kind::ALL.iter().position(|kind| kind.as_str() == it.above).unwrap_or(0);
        let y = 10.0 + height * (1.0 - it.monthly[1] / top);
        let _ = write!(
            svg,
            "<line x1=\"45\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" style=\"stroke:var(--k{kind});stroke-width:2\"/>",
            width + 45.0
        );
        if let Some(used) = it.utilisation {
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\" style=\"fill:var(--k{kind})\"/>",
                45.0 + width * used
            );
        }
    }
    let mut legend = "<span class=\"key\" style=\"background:var(--k7)\"></span>Lambda".to_owned();
    for it in &shown {
        let kind = Kind::ALL.iter().position(|kind| kind.as_str() == it.above).unwrap_or(0);
        let _ = write!(legend, "<span class=\"key\" style=\"background:var(--k{kind})\"></span>{}", escape(&it.above));
    }
    format!(
        "{svg}</svg><p>{legend}</p><p><small>{} a month for one processor, by the share of its time that is used, for requests of \"{}\".</small></p>{}",
        escape(&plan.currency),
        escape(&first.stream),
        sentences(plan)
    )
}

fn sentences(plan: &Plan) -> String {
    let items: String =
        plan.crossovers.iter().map(|it| format!("<li>{}</li>\n", escape(&crossover(it, &plan.currency)))).collect();
    format!("<ul>\n{items}</ul>")
}

fn comparisons(page: &mut String, plan: &Plan) {
    let most =
        plan.comparisons.iter().filter_map(|it| it.monthly.as_ref().ok()).map(|it| it.as_f64()).fold(1e-9, f64::max);
    let mut rows = String::new();
    for it in &plan.comparisons {
        let (bar, cost) = match &it.monthly {
            Ok(monthly) => (
                format!(
                    "<svg viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" style=\"height:.8rem\"><rect width=\"{:.2}\" height=\"6\" style=\"fill:var(--k1)\"/></svg>",
                    100.0 * monthly.as_f64() / most
                ),
                monthly.to_string(),
            ),
            Err(error) => (format!("<small>{}</small>", escape(error)), "–".to_owned()),
        };
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><td style=\"width:50%\">{bar}</td><td class=\"n\">{cost}</td></tr>",
            escape(&it.with)
        );
    }
    section(page, "What it would cost otherwise", &format!("<table>\n{rows}</table>"));
}

#[cfg(test)]
mod tests {
    use crate::load::Week;
    use crate::plan::tests::{question, stream, work};

    #[test]
    fn a_page_stands_alone_and_hostile_names_are_text() {
        let mut asked = question(vec![stream(Week::flat(500.0, 900.0), work(10.0, 5.0, 64.0))]);
        asked.streams[0].name = "<script>alert('x')</script>\"&".to_owned();
        asked.streams[0].objective.p99_ms = Some(400.0);
        asked.places[1].name = "</style><img src=x>".to_owned();
        let page = super::html(&asked.plan().unwrap(), "<b>title</b>");
        for hostile in ["<script", "<img", "<b>title", "http://", "https://", "url("] {
            assert!(!page.contains(hostile), "{hostile}");
        }
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;"));
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        balanced(&page);
    }

    /// Every element that is opened is closed, in order.
    fn balanced(page: &str) {
        let mut open: Vec<&str> = Vec::new();
        for tag in page.split('<').skip(1) {
            let name = tag.split(['>', ' ', '/']).find(|part| !part.is_empty()).unwrap();
            let whole = &tag[..tag.find('>').unwrap()];
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "…<{whole}>");
            } else if !(whole.ends_with('/') || ["!doctype", "meta"].contains(&name)) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }
}
