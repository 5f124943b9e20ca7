//! The parts of a token in the compact serialization (RFC 7515, 3.1), before anything in it is believed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::Rejection;
use super::key::algorithm;

/// Longest token accepted, in bytes: what fits a header line of common servers.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;

/// A token cut into its parts.
#[derive(Debug)]
pub(super) struct Token<'a> {
    /// What the header says. A key must agree.
    pub(super) algorithm: Algorithm,
    /// Which key, if the header says.
    pub(super) kid: Option<String>,
    /// Header and payload as they were signed.
    pub(super) signed: &'a str,
    /// The signature, encoded.
    pub(super) signature: &'a str,
    payload: &'a str,
}

impl<'a> Token<'a> {
    /// Cuts a token up and reads its header.
    pub(super) fn parse(token: &'a str) -> Result<Self, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Rejection::Malformed)?;
        // A third dot would be in the payload, which is not base64url then; but say so here already.
        if payload.contains('.') {
            return Err(Rejection::Malformed);
        }
        let header = object(header)?;
        let name = header.get("alg").and_then(Value::as_str).ok_or(Rejection::Malformed)?;
        let algorithm = algorithm(name).map_err(|_| Rejection::Algorithm)?;
        // No extension is understood here, so none that must be can be accepted (RFC 7515, 4.1.11).
        if header.contains_key("crit") {
            return Err(Rejection::Critical);
        }
        check_type(&header)?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(Rejection::Malformed),
        };
        Ok(Self { algorithm, kid, signed, signature, payload })
    }

    /// The payload. To be called only after the signature has been verified.
    pub(super) fn claims(&self) -> Result<Map<String, Value>, Rejection> {
        object(self.payload)
    }
}

/// Refuses tokens that declare another purpose (RFC 8725, 3.11): of the typed tokens, which end in `+jwt`, only access
/// tokens (RFC 9068) are bearer tokens. Also refuses a token in a token (`cty: JWT`).
fn check_type(header: &Map<String, Value>) -> Result<(), Rejection> {
    let media_type = |name: &str| match header.get(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.to_ascii_lowercase().trim_start_matches("application/").to_owned()),
        Some(_) => Err(Rejection::Malformed),
    };
    let typ = media_type("typ")?;
    if media_type("cty")?.ends_with("jwt") || (typ.ends_with("+jwt") && typ != "at+jwt") {
        return Err(Rejection::TokenType);
    }
    Ok(())
}

/// A part as a JSON object. A name that is there twice makes it malformed (RFC 7519, 4): which one was meant is how two
/// parsers come to different conclusions.
fn object(part: &str) -> Result<Map<String, Value>, Rejection> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejection::Malformed)?;
    let UniqueNames(map) = serde_json::from_slice(&json).map_err(|_| Rejection::Malformed)?;
    Ok(map)
}

struct UniqueNames(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = UniqueNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<UniqueNames, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = members.next_entry()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name is there twice"));
                    }
                }
                Ok(UniqueNames(map))
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}
