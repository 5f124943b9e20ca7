//! A project file as one tree of values that know where they stand, whichever language it is written in.

use std::ops::Range;

use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, ast};
use toml::de::{DeTable, DeValue};

/// Deepest nesting accepted: a bundle is read back by a JSON parser that stops at 128.
const MAX_DEPTH: usize = 64;

/// The language of a project file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    /// JSON with comments and trailing commas.
    Jsonc,
    /// TOML.
    Toml,
}

/// A value and the bytes it stands on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) node: Node,
    pub(super) span: Range<usize>,
}

/// What a value is. A TOML date is a string: JSON has no dates, and a bundle is JSON.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    Array(Vec<Value>),
    Table(Vec<Entry>),
}

/// One key of a table, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Value,
}

/// Something that is wrong with the text itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Flaw {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// Reads `text`. There is a tree whenever the text has a structure at all, so that one syntax error does not hide the
/// others.
pub(super) fn parse(language: Language, text: &str) -> (Option<Value>, Vec<Flaw>) {
    let mut flaws = Vec::new();
    let tree = match language {
        Language::Jsonc => parse_jsonc(text, &mut flaws),
        Language::Toml => parse_toml(text, &mut flaws),
    };
    (tree, flaws)
}

impl Value {
    /// What people call this kind of value.
    pub(super) fn kind(&self) -> &'static str {
        match self.node {
            Node::Null => "null",
            Node::Bool(_) => "a boolean",
            Node::Number(_) => "a number",
            Node::String(_) => "a string",
            Node::Array(_) => "an array",
            Node::Table(_) => "an object",
        }
    }

    /// The value without its positions.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.node {
            Node::Null => serde_json::Value::Null,
            Node::Bool(b) => (*b).into(),
            Node::Number(n) => n.clone().into(),
            Node::String(s) => s.clone().into(),
            Node::Array(items) => items.iter().map(Self::to_json).collect(),
            Node::Table(entries) => {
                serde_json::Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect())
            }
        }
    }
}

fn parse_jsonc(text: &str, flaws: &mut Vec<Flaw>) -> Option<Value> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    match jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &options) {
        Ok(parsed) => match parsed.value {
            Some(value) => from_jsonc(&value, 0, flaws),
            None => {
                flaws.push(Flaw {
                    span: 0..0,
                    message: "the file is empty".into(),
                    help: "begin with { \"name\": … }",
                });
                None
            }
        },
        Err(error) => {
            let range = error.range();
            let help = "the file is JSON with comments and trailing commas: keys and strings stand in double quotes";
            flaws.push(Flaw { span: range.start..range.end, message: sentence(&error.kind().to_string()), help });
            None
        }
    }
}

fn from_jsonc(value: &ast::Value<'_>, depth: usize, flaws: &mut Vec<Flaw>) -> Option<Value> {
    let range = value.range();
    let span = range.start..range.end;
    if depth > MAX_DEPTH {
        flaws.push(too_deep(span));
        return None;
    }
    let node = match value {
        ast::Value::NullKeyword(_) => Node::Null,
        ast::Value::BooleanLit(lit) => Node::Bool(lit.value),
        ast::Value::NumberLit(lit) => number(lit.value, &span, flaws)?,
        ast::Value::StringLit(lit) => Node::String(lit.value.to_string()),
        ast::Value::Array(array) => {
            Node::Array(array.elements.iter().filter_map(|v| from_jsonc(v, depth + 1, flaws)).collect())
        }
        ast::Value::Object(object) => Node::Table(table_from_jsonc(object, depth, flaws)),
    };
    Some(Value { node, span })
}

fn table_from_jsonc(object: &ast::Object<'_>, depth: usize, flaws: &mut Vec<Flaw>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(object.properties.len());
    let mut seen = std::collections::HashSet::with_capacity(object.properties.len());
    for property in &object.properties {
        let key = property.name.as_str();
        let range = property.name.range();
        if !seen.insert(key) {
            let message = format!("the key {key:?} is written twice");
            flaws.push(Flaw { span: range.start..range.end, message, help: "keep one of them" });
            continue;
        }
        if let Some(value) = from_jsonc(&property.value, depth + 1, flaws) {
            entries.push(Entry { key: key.to_owned(), key_span: range.start..range.end, value });
        }
    }
    entries
}

fn parse_toml(text: &str, flaws: &mut Vec<Flaw>) -> Option<Value> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        flaws.push(Flaw { span, message: sentence(error.message()), help: "" });
    }
    // A tree recovered from a syntax error would complain about keys that are only missing because of it.
    if errors.iter().any(|error| !error.message().starts_with("duplicate key")) {
        return None;
    }
    let entries = table_from_toml(table.get_ref(), 0, flaws);
    Some(Value { node: Node::Table(entries), span: 0..0 })
}

fn from_toml(value: &toml::Spanned<DeValue<'_>>, depth: usize, flaws: &mut Vec<Flaw>) -> Option<Value> {
    let span = value.span();
    if depth > MAX_DEPTH {
        flaws.push(too_deep(span));
        return None;
    }
    let node = match value.get_ref() {
        DeValue::String(s) => Node::String(s.to_string()),
        DeValue::Boolean(b) => Node::Bool(*b),
        DeValue::Datetime(date) => Node::String(date.to_string()),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(n) => Node::Number(n.into()),
            Err(_) => {
                flaws.push(out_of_range(span));
                return None;
            }
        },
        DeValue::Float(f) => number(f.as_str(), &span, flaws)?,
        DeValue::Array(items) => Node::Array(items.iter().filter_map(|v| from_toml(v, depth + 1, flaws)).collect()),
        DeValue::Table(table) => Node::Table(table_from_toml(table, depth, flaws)),
    };
    Some(Value { node, span })
}

fn table_from_toml(table: &DeTable<'_>, depth: usize, flaws: &mut Vec<Flaw>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .filter_map(|(key, value)| {
            let value = from_toml(value, depth + 1, flaws)?;
            Some(Entry { key: key.get_ref().to_string(), key_span: key.span(), value })
        })
        .collect();
    // The parser sorts by name; the order of the file is what its author meant (cohorts have one).
    entries.sort_by_key(|entry| entry.key_span.start);
    entries
}

/// A number as JSON has it: finite, and an integer when it is written as one that fits 64 bits.
fn number(text: &str, span: &Range<usize>, flaws: &mut Vec<Flaw>) -> Option<Node> {
    let parsed = if let Ok(n) = text.parse::<i64>() {
        Some(n.into())
    } else if let Ok(n) = text.parse::<u64>() {
        Some(n.into())
    } else {
        text.parse::<f64>().ok().and_then(serde_json::Number::from_f64)
    };
    if parsed.is_none() {
        flaws.push(out_of_range(span.clone()));
    }
    parsed.map(Node::Number)
}

fn out_of_range(span: Range<usize>) -> Flaw {
    Flaw { span, message: "the number is out of range".into(), help: "write a finite number that fits 64 bits" }
}

fn too_deep(span: Range<usize>) -> Flaw {
    Flaw { span, message: format!("values are nested more than {MAX_DEPTH} deep"), help: "flatten them" }
}

/// A parser's message in the style of ours: lower case.
fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
