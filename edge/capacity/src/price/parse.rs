use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Date, Instance, Key, OwnNode, Price, PriceBook, Source, Unit};

/// Largest book read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// One thing that is wrong with a price book.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {key}: {problem}")]
pub struct PriceError {
    /// From 1.
    pub line: usize,
    /// The key's name, dotted.
    pub key: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// Everything that is wrong with a price book; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceErrors(pub Vec<PriceError>);

impl fmt::Display for PriceErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for PriceErrors {}

type Node<'a> = Spanned<DeValue<'a>>;

/// Reads a book, all errors at once.
pub(super) fn parse(text: &str) -> Result<PriceBook, PriceErrors> {
    let alone = |line, problem: String| PriceErrors(vec![PriceError { line, key: "the file".to_owned(), problem }]);
    if text.len() > MAX_BYTES {
        return Err(alone(1, format!("is larger than {MAX_BYTES} bytes")));
    }
    let root = DeTable::parse(text)
        .map_err(|error| alone(error.span().map_or(1, |span| line_of(text, span.start)), error.message().to_owned()))?;
    let mut reader = Reader { text, errors: Vec::new(), sources: Vec::new() };
    let book = reader.book(root.get_ref(), root.span());
    match book {
        Some(book) if reader.errors.is_empty() => Ok(book),
        _ => {
            reader.errors.sort_by_key(|error| error.line);
            Err(PriceErrors(reader.errors))
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

struct Reader<'a> {
    text: &'a str,
    errors: Vec<PriceError>,
    sources: Vec<Source>,
}

impl Reader<'_> {
    fn wrong(&mut self, at: &Range<usize>, key: &str, problem: impl Into<String>) {
        self.errors.push(PriceError {
            line: line_of(self.text, at.start),
            key: key.to_owned(),
            problem: problem.into(),
        });
    }

    fn book(&mut self, root: &DeTable<'_>, span: Range<usize>) -> Option<PriceBook> {
        for (key, _) in root {
            if !["currency", "sources", "price", "instance", "own"].contains(&key.get_ref().as_ref()) {
                self.wrong(
                    &key.span(),
                    key.get_ref(),
                    "is not a part of a price book: currency, sources, price, instance, own",
                );
            }
        }
        let currency = self.string(root, &span, "", "currency");
        if let Some(currency) = &currency
            && !(currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            self.wrong(
                &span,
                "currency",
                format!("\"{currency}\" is no currency: three capital letters, as in \"USD\""),
            );
        }
        for (name, node) in self.tables(root, &span, "sources", true) {
            if let Some(source) = self.source(&name, node) {
                self.sources.push(source);
            }
        }
        let prices = self.prices(root, &span);
        let instances: Vec<_> = self
            .tables(root, &span, "instance", true)
            .into_iter()
            .filter_map(|(name, node)| self.instance(&name, node))
            .collect();
        let own: Vec<_> = self
            .tables(root, &span, "own", false)
            .into_iter()
            .filter_map(|(name, node)| self.own_node(&name, node))
            .collect();
        let sources = std::mem::take(&mut self.sources);
        Some(PriceBook { currency: currency?, sources, prices: prices?, instances, own })
    }

    /// The named tables below a key of the root.
    fn tables<'t>(
        &mut self,
        root: &'t DeTable<'_>,
        span: &Range<usize>,
        key: &str,
        needed: bool,
    ) -> Vec<(String, &'t Node<'t>)> {
        match root.get(key).map(|node| (node, node.get_ref())) {
            Some((_, DeValue::Table(table))) if !table.is_empty() => {
                table.iter().map(|(name, node)| (name.get_ref().to_string(), node)).collect()
            }
            None if !needed => Vec::new(),
            found => {
                let at = found.map_or(span.clone(), |(node, _)| node.span());
                self.wrong(&at, key, format!("is missing: one [{key}.NAME] for each"));
                Vec::new()
            }
        }
    }

    fn table<'t>(&mut self, key: &str, node: &'t Node<'t>) -> Option<&'t DeTable<'t>> {
        if let DeValue::Table(table) = node.get_ref() {
            return Some(table);
        }
        self.wrong(&node.span(), key, "must be a table");
        None
    }

    fn known(&mut self, table: &DeTable<'_>, path: &str, keys: &[&str]) {
        for (key, _) in table {
            if !keys.contains(&key.get_ref().as_ref()) {
                self.wrong(
                    &key.span(),
                    &join(path, key.get_ref()),
                    format!("is unknown here; known are {}", keys.join(", ")),
                );
            }
        }
    }

    fn source(&mut self, name: &str, node: &Node<'_>) -> Option<Source> {
        let path = join("sources", name);
        let table = self.table(&path, node)?;
        self.known(table, &path, &["region", "date", "text", "unverified"]);
        let region = self.string(table, &node.span(), &path, "region");
        let text = self.string(table, &node.span(), &path, "text");
        let date = match table.get("date").map(|value| (value.span(), value.get_ref())) {
            Some((_, DeValue::Datetime(value))) if value.date.is_some() => {
                value.date.and_then(|date| Date::new(date.year, date.month, date.day))
            }
            found => {
                let at = found.map_or(node.span(), |(at, _)| at);
                self.wrong(&at, &join(&path, "date"), "must be a date without quotes, as in 2026-11-27");
                None
            }
        };
        let unverified = match table.get("unverified").map(|value| (value.span(), value.get_ref())) {
            None => false,
            Some((_, DeValue::Boolean(value))) => *value,
            Some((at, _)) => {
                self.wrong(&at, &join(&path, "unverified"), "must be true or false");
                false
            }
        };
        Some(Source { name: name.to_owned(), region: region?, date: date?, text: text?, unverified })
    }

    fn string(&mut self, table: &DeTable<'_>, span: &Range<usize>, path: &str, key: &str) -> Option<String> {
        match table.get(key).map(|value| (value.span(), value.get_ref())) {
            Some((_, DeValue::String(value))) if !value.trim().is_empty() => Some(value.to_string()),
            found => {
                let (at, problem) =
                    found.map_or((span.clone(), "is missing"), |(at, _)| (at, "must be a text that is not empty"));
                self.wrong(&at, &join(path, key), problem);
                None
            }
        }
    }

    /// All prices below `[price]`, each where its [`Key`] says.
    fn prices(&mut self, root: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Price>> {
        let mut found = vec![None; Key::ALL.len()];
        let Some(node) = root.get("price") else {
            self.wrong(span, "price", "is missing: the table of all prices");
            return None;
        };
        let errors = self.errors.len();
        self.walk(node, "", &mut found);
        let complete = found.iter().all(Option::is_some);
        for (key, price) in Key::ALL.iter().zip(&found) {
            let said =
                self.errors[errors..].iter().any(|error| error.key.starts_with(&format!("price.{}", key.as_str())));
            if price.is_none() && !said {
                self.wrong(
                    &node.span(),
                    &join("price", key.as_str()),
                    format!("is missing: the price of one {}", key.unit().as_str()),
                );
            }
        }
        complete.then(|| found.into_iter().flatten().collect())
    }

    fn walk(&mut self, node: &Node<'_>, path: &str, found: &mut [Option<Price>]) {
        let full = join("price", path);
        let Some(table) = self.table(&full, node) else { return };
        if let Some(key) = Key::ALL.iter().find(|key| key.as_str() == path) {
            found[*key as usize] = self.price(&full, node, Some(key.unit()));
        } else if table.contains_key("amount") || table.is_empty() {
            self.wrong(&node.span(), &full, "is no price that anything here is calculated with");
        } else {
            for (name, below) in table {
                self.walk(below, &join(path, name.get_ref()), found);
            }
        }
    }

    fn price(&mut self, path: &str, node: &Node<'_>, expected: Option<Unit>) -> Option<Price> {
        let table = self.table(path, node)?;
        self.known(table, path, &["amount", "unit", "source"]);
        let amount = self.number(table, &node.span(), path, "amount");
        let unit = self.string(table, &node.span(), path, "unit").and_then(|name| {
            let unit = Unit::named(&name);
            match (unit, expected) {
                (None, _) => {
                    let known = Unit::ALL.map(Unit::as_str).join(", ");
                    self.wrong(
                        &node.span(),
                        &join(path, "unit"),
                        format!("\"{name}\" is an unknown unit; known are {known}"),
                    );
                }
                (Some(unit), Some(expected)) if unit != expected => {
                    let text = format!("must be \"{}\", not \"{name}\": convert the amount", expected.as_str());
                    self.wrong(&node.span(), &join(path, "unit"), text);
                }
                _ => {}
            }
            unit
        });
        let source = self.string(table, &node.span(), path, "source").and_then(|name| {
            let index = self.sources.iter().position(|source| source.name == name);
            if index.is_none() {
                self.wrong(&node.span(), &join(path, "source"), format!("\"{name}\" is not among [sources]"));
            }
            index
        });
        Some(Price { amount: amount?, unit: unit?, source: source? })
    }

    /// A number that is finite and not negative.
    fn number(&mut self, table: &DeTable<'_>, span: &Range<usize>, path: &str, key: &str) -> Option<f64> {
        let full = join(path, key);
        let Some(node) = table.get(key) else {
            self.wrong(span, &full, "is missing");
            return None;
        };
        let value = match node.get_ref() {
            DeValue::Float(value) => value.as_str().parse::<f64>().ok(),
            DeValue::Integer(value) if value.radix() == 10 => value.as_str().parse::<f64>().ok(),
            _ => None,
        };
        match value {
            Some(value) if value.is_nan() => self.wrong(&node.span(), &full, "is not a number (nan)"),
            Some(value) if value < 0.0 => {
                self.wrong(&node.span(), &full, format!("is negative ({value}): a price is 0 or more"))
            }
            Some(value) if value.is_infinite() => self.wrong(&node.span(), &full, "is infinite"),
            Some(value) => return Some(value),
            None => self.wrong(&node.span(), &full, "must be a number"),
        }
        None
    }

    fn positive(&mut self, table: &DeTable<'_>, span: &Range<usize>, path: &str, key: &str) -> Option<f64> {
        let value = self.number(table, span, path, key)?;
        if value > 0.0 {
            return Some(value);
        }
        self.wrong(&table.get(key).map_or(span.clone(), Spanned::span), &join(path, key), "must be above 0");
        None
    }

    fn whole(&mut self, table: &DeTable<'_>, span: &Range<usize>, path: &str, key: &str) -> Option<u32> {
        let value = self.positive(table, span, path, key)?;
        let whole = (1..=10_000_u32).find(|whole| f64::from(*whole).total_cmp(&value).is_eq());
        if whole.is_none() {
            let at = table.get(key).map_or(span.clone(), Spanned::span);
            self.wrong(&at, &join(path, key), "must be a whole number from 1 to 10000");
        }
        whole
    }

    fn below(&mut self, table: &DeTable<'_>, span: &Range<usize>, path: &str, key: &str, unit: Unit) -> Option<Price> {
        let full = join(path, key);
        if let Some(node) = table.get(key) {
            return self.price(&full, node, Some(unit));
        }
        self.wrong(span, &full, format!("is missing: the price of one {}", unit.as_str()));
        None
    }

    fn instance(&mut self, name: &str, node: &Node<'_>) -> Option<Instance> {
        let path = join("instance", name);
        let (table, span) = (self.table(&path, node)?, node.span());
        self.known(table, &path, &["vcpus", "memory_gb", "on_demand", "reserved_1y", "reserved_3y", "spot"]);
        let vcpus = self.whole(table, &span, &path, "vcpus");
        let memory_gb = self.positive(table, &span, &path, "memory_gb");
        let [on_demand, reserved_1y, reserved_3y, spot] = ["on_demand", "reserved_1y", "reserved_3y", "spot"]
            .map(|key| self.below(table, &span, &path, key, Unit::Hour));
        Some(Instance {
            name: name.to_owned(),
            vcpus: vcpus?,
            memory_gb: memory_gb?,
            on_demand: on_demand?,
            reserved_1y: reserved_1y?,
            reserved_3y: reserved_3y?,
            spot: spot?,
        })
    }

    fn own_node(&mut self, name: &str, node: &Node<'_>) -> Option<OwnNode> {
        let path = join("own", name);
        let (table, span) = (self.table(&path, node)?, node.span());
        self.known(table, &path, &["vcpus", "memory_gb", "life_months", "watts", "rack_units", "purchase"]);
        let (vcpus, life) = (self.whole(table, &span, &path, "vcpus"), self.whole(table, &span, &path, "life_months"));
        let memory_gb = self.positive(table, &span, &path, "memory_gb");
        let watts = self.number(table, &span, &path, "watts");
        let rack_units = self.number(table, &span, &path, "rack_units");
        let purchase = self.below(table, &span, &path, "purchase", Unit::Machine);
        Some(OwnNode {
            name: name.to_owned(),
            vcpus: vcpus?,
            memory_gb: memory_gb?,
            life_months: life?,
            watts: watts?,
            rack_units: rack_units?,
            purchase: purchase?,
        })
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else if key.is_empty() {
        path.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
