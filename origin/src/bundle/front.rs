//! What a project file says about the cache in front of its function.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::RoutePattern;

/// The cache in front of a function: what the function has answered answers the next request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontCache {
    /// Whether what one version has answered may be sent once another is live.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cross_version: bool,
    /// What keeps answers apart, beside the URL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<KeyPart>,
}

/// A route whose cache in front is another than its function's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteCache {
    /// One of the function's routes.
    pub pattern: RoutePattern,
    /// `None` for no cache.
    pub cache: Option<FrontCache>,
}

/// Something about a request that keeps answers apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyPart {
    /// `country`: where the client's address is, by its ISO 3166-1 code.
    Country,
    /// `continent`: likewise.
    Continent,
    /// `scheme`: whether the client came over TLS.
    Scheme,
    /// `cohort:NAME`: the client's cohort in the binding of that name. Clients that have no cookie of it yet are one.
    Cohort(String),
    /// `cookie:NAME`: the value of a cookie.
    Cookie(String),
    /// `header:NAME`: the value of a header field.
    Header(String),
}

impl FromStr for KeyPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let token = |name: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)
        };
        match text.split_once(':') {
            None if text == "country" => Ok(Self::Country),
            None if text == "continent" => Ok(Self::Continent),
            None if text == "scheme" => Ok(Self::Scheme),
            Some(("cohort", name)) if !name.is_empty() => Ok(Self::Cohort(name.to_owned())),
            Some(("cookie", name)) if token(name) => Ok(Self::Cookie(name.to_owned())),
            Some(("header", name)) if token(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            _ => Err(format!(
                "{text:?} is nothing to keep answers apart by: there are \"country\", \"continent\", \"scheme\", \"cohort:NAME\", \
                 \"cookie:NAME\" and \"header:NAME\""
            )),
        }
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Country => f.write_str("country"),
            Self::Continent => f.write_str("continent"),
            Self::Scheme => f.write_str("scheme"),
            Self::Cohort(name) => write!(f, "cohort:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl TryFrom<String> for KeyPart {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<KeyPart> for String {
    fn from(part: KeyPart) -> Self {
        part.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_reads_as_it_is_written() {
        for text in ["country", "continent", "scheme", "cohort:checkout", "cookie:theme", "header:accept-language"] {
            assert_eq!(text.parse::<KeyPart>().unwrap().to_string(), text);
        }
        assert_eq!("header:Accept".parse(), Ok(KeyPart::Header("accept".into())));
        for bad in ["", "city", "cohort", "cohort:", "cookie:", "cookie:a b", "header:a:b", "Country", "country:de"] {
            assert!(bad.parse::<KeyPart>().is_err(), "{bad}");
        }
    }
}
