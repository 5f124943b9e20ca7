//! Prometheus' text format, read strictly: what a forgiving scraper would take is refused here.

use std::collections::{BTreeMap, BTreeSet};

/// What a scrape brought.
#[derive(Debug, Default)]
pub struct Scrape {
    /// The kind of each metric.
    pub kinds: BTreeMap<String, String>,
    /// Values by name and labels.
    samples: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

impl Scrape {
    /// Reads a page.
    ///
    /// # Errors
    /// The first line that is not as the format wants it, or what does not agree.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        let mut scrape = Self::default();
        let (mut family, mut helped) = (String::new(), BTreeSet::new());
        for (number, line) in text.lines().enumerate() {
            let wrong = |why: &str| format!("line {}: {why}: {line}", number + 1);
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').ok_or_else(|| wrong("no help"))?;
                check_escapes(help, "\\n").map_err(|why| wrong(&why))?;
                if !is_name(name) || !helped.insert(name.to_owned()) {
                    return Err(wrong("a name that is none, or has help already"));
                }
                family = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').ok_or_else(|| wrong("no type"))?;
                if name != family || scrape.kinds.contains_key(name) {
                    return Err(wrong("a type that does not follow the metric's help, or not once"));
                }
                if !["counter", "gauge", "histogram"].contains(&kind) || (kind == "counter") != name.ends_with("_total")
                {
                    return Err(wrong("an unknown type, or one that the name contradicts"));
                }
                scrape.kinds.insert(name.to_owned(), kind.to_owned());
            } else {
                let (name, labels, value) = sample(line).map_err(|why| wrong(&why))?;
                let kind = scrape.kinds.get(&family).map_or("", String::as_str);
                let suffix = name.strip_prefix(&family).ok_or_else(|| wrong("a sample outside its metric"))?;
                let fits = match kind {
                    "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                    "counter" => suffix.is_empty() && value >= 0.0,
                    "gauge" => suffix.is_empty(),
                    _ => false,
                };
                if !fits || (suffix == "_bucket") != labels.contains_key("le") {
                    return Err(wrong("a sample that is none of its metric's type"));
                }
                if scrape.samples.insert((name, labels), value).is_some() {
                    return Err(wrong("twice the same"));
                }
            }
        }
        scrape.kinds.iter().filter(|(_, kind)| *kind == "histogram").try_for_each(|(name, _)| scrape.agrees(name))?;
        Ok(scrape)
    }

    /// The sum of all samples of this name whose labels are these, and others; 0 where there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |own: &Labels| labels.iter().all(|(name, label)| own.get(*name).is_some_and(|own| own == label));
        self.samples.iter().filter(|((own, labels), _)| own == name && fits(labels)).map(|(_, value)| value).sum()
    }

    /// What a label says in the samples of this name.
    pub fn labels(&self, name: &str, label: &str) -> BTreeSet<&str> {
        let own = self.samples.keys().filter(|(own, _)| own == name);
        own.filter_map(|(_, labels)| labels.get(label).map(String::as_str)).collect()
    }

    /// A histogram's buckets only grow, the last is the count, and there is a sum.
    fn agrees(&self, name: &str) -> Result<(), String> {
        let mut all: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        let of = |suffix: &str| {
            let name = format!("{name}{suffix}");
            self.samples.iter().filter(move |((own, _), _)| *own == name)
        };
        for ((_, labels), count) in of("_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap_or_default();
            let bound = if bound == "+Inf" { f64::INFINITY } else { number(&bound)? };
            all.entry(labels).or_default().push((bound, *count));
        }
        if of("_sum").count() != all.len() || of("_count").count() != all.len() {
            return Err(format!("{name} has not as many sums and counts as it has series"));
        }
        for (labels, mut buckets) in all {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let last = buckets.last().filter(|(bound, _)| bound.is_infinite()).map(|(_, count)| *count);
            let grows = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            let count = self.samples.get(&(format!("{name}_count"), labels.clone()));
            let sum = self.samples.get(&(format!("{name}_sum"), labels.clone()));
            if !grows || last.is_none() || last.as_ref() != count || sum.is_none() {
                return Err(format!("{name}{labels:?} does not agree with itself: {buckets:?}, count {count:?}"));
            }
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let start = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':';
    text.bytes().next().is_some_and(start) && text.bytes().all(|b| start(b) || b.is_ascii_digit())
}

/// `name{label="text",...} value`
fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    if !is_name(name) {
        return Err("a name that is none".to_owned());
    }
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = value.strip_prefix(' ').ok_or("no space before the value")?;
    Ok((name.to_owned(), labels, number(value)?))
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").ok_or("no label")?;
        if !is_name(name) || name.contains(':') {
            return Err(format!("{name:?} is no label's name"));
        }
        let mut escaped = false;
        let end = quoted.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (text, after) = quoted.split_at(end.ok_or("a label that does not end")?);
        check_escapes(text, "\\n\"")?;
        let text = text.replace("\\n", "\n").replace("\\\"", "\"").replace("\\\\", "\\");
        if labels.insert(name.to_owned(), text).is_some() {
            return Err(format!("{name:?} twice"));
        }
        let after = &after[1..];
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok((labels, after.strip_prefix('}').ok_or("labels that do not end")?)),
        }
    }
}

/// A backslash stands before one of these characters only.
fn check_escapes(text: &str, known: &str) -> Result<(), String> {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' && !characters.next().is_some_and(|next| known.contains(next)) {
            return Err("an escape that is none".to_owned());
        }
    }
    Ok(())
}

/// A number without sign or exponent, as every value of ours is.
fn number(text: &str) -> Result<f64, String> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain).ok_or_else(|| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total It \\\\ and \\n.\n# TYPE a_total counter\na_total{f=\"x\\\"y\\\\\",g=\"\"} 3\n\
        # HELP h_seconds H.\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"0.1\"} 1\nh_seconds_bucket{le=\"+Inf\"} 2\n\
        h_seconds_sum 1.5\nh_seconds_count 2\n# HELP g G.\n# TYPE g gauge\n";

    #[test]
    fn what_is_right_is_read() {
        let scrape = Scrape::parse(GOOD).unwrap();
        assert_eq!(scrape.sum("a_total", &[("f", "x\"y\\")]), 3.0);
        assert_eq!(scrape.sum("a_total", &[("f", "x")]), 0.0);
        assert_eq!(scrape.sum("h_seconds_sum", &[]), 1.5);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (right, wrong) in [
            ("# TYPE a_total counter\n", ""),
            ("# HELP a_total It", "# HELP b_total It"),
            ("counter", "tally"),
            ("counter", "gauge"),
            ("gauge\n", "gauge"),
            ("a_total{", "A total{"),
            ("a_total{", "b_total{"),
            ("f=\"x", "1f=\"x"),
            ("f=\"x", "f=x"),
            ("g=\"\"", "f=\"\""),
            ("g=\"\"} 3", "g=\"\" 3"),
            ("g=\"\"} 3", "g=\"\"}  3"),
            ("g=\"\"} 3", "g=\"\"} -3"),
            ("g=\"\"} 3", "g=\"\"} 3\na_total{g=\"\",f=\"x\\\"y\\\\\"} 3"),
            ("x\\\"y", "x\\y"),
            ("x\\\"y", "x\"y"),
            ("\\n.", "\\t."),
            ("bucket{le=\"0.1\"} 1", "bucket{le=\"0.1\"} 3"),
            ("bucket{le=\"0.1\"} 1", "bucket{le=\"x\"} 1"),
            ("bucket{le=\"0.1\"} 1", "bucket 1"),
            ("count 2", "count 3"),
            ("h_seconds_count 2\n", ""),
            ("h_seconds_sum 1.5\n", ""),
            ("h_seconds_bucket{le=\"+Inf\"} 2\n", ""),
            ("# TYPE g gauge\n", "# TYPE g gauge\na_total 1\n"),
        ] {
            assert!(GOOD.contains(right), "{right}");
            assert!(Scrape::parse(&GOOD.replacen(right, wrong, 1)).is_err(), "{right:?} as {wrong:?} was taken");
        }
    }
}
