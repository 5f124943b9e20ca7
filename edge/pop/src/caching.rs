//! What a function says of caching: in its `fetch()`, by Cloudflare's `cf` options and `cache` of the Fetch API, and in
//! `ctx.cache.purge()`.
//!
//! What such a call brings into the cache is the function's own: another function that asks for the same URL, or gives the
//! same `cacheKey`, has its own copy. Cloudflare shares them within a zone; here, one function could make another
//! believe in an answer for a day, or in another answer altogether.

use std::time::Duration;

use cache::Key;
use cache::policy::Overrides;
use cache::policy::overrides::{Mode, Ttl};
use http::HeaderValue;
use origin::bundle::FunctionName;
use origin::purge::PurgeRequest;
use serde_json::{Map, Value};

/// Bytes of a `cacheKey`, and of all `cacheTags` of a call. Cloudflare has the latter at 16 KB, too.
const MOST_BYTES: usize = 16 << 10;
/// Bytes of one tag.
const MOST_TAG_BYTES: usize = 1024;
/// Entries of `cacheTtlByStatus`.
const MOST_STATUSES: usize = 100;
/// The longest lifetime, in seconds: the largest number that caches tell apart (RFC 9111 section 1.2.2).
const MOST_SECONDS: u64 = 1 << 31;

/// What a call says. In the extensions of its request, for [`Upstream::fetch`](crate::upstream::Upstream::fetch).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Caching {
    pub(crate) overrides: Overrides,
    /// Takes the place of the URL in the key.
    key: Option<String>,
    /// A `Cache-Tag` that is added to the answer.
    pub(crate) tags: Option<HeaderValue>,
    /// The name of the function.
    owner: String,
}

impl Caching {
    /// Reads what JavaScript gives (see [`isolate::Capabilities::fetch`]). Options that are none of the cache's are not
    /// looked at: code written for Workers has more of them.
    ///
    /// # Errors
    /// The first option that is not what it should be, for the function's author.
    pub(crate) fn parse(text: &str, owner: &str) -> Result<Self, String> {
        let mut said: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("fetch(): its options: {error}"))?;
        let mode = mode(said.get("cache"))?;
        let cf = match said.remove("cf") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(cf)) => cf,
            Some(other) => return Err(expected("cf", "an object", &other)),
        };
        let option = |name: &str| cf.get(name).filter(|value| !value.is_null());
        let overrides = Overrides {
            ttl: option("cacheTtl").map(ttl).transpose()?,
            ttl_by_status: option("cacheTtlByStatus").map(ttl_by_status).transpose()?.unwrap_or_default(),
            everything: option("cacheEverything").map(flag).transpose()?.unwrap_or_default(),
            mode,
        };
        let key = option("cacheKey").map(key).transpose()?;
        let tags = option("cacheTags").map(tags).transpose()?.flatten();
        Ok(Self { overrides, key, tags, owner: owner.to_owned() })
    }

    /// The key under which the answer is stored, given that of the URL and its parts.
    pub(crate) fn key<'a>(&'a self, of_url: Key, parts: impl Iterator<Item = &'a str>) -> Key {
        if let Some(name) = &self.key {
            return Key::named(&["fetch", &self.owner], name).with_parts(parts);
        }
        let own = (self.overrides.shapes() || self.tags.is_some()).then_some(["fetch", &self.owner]);
        of_url.with_parts(parts.chain(own.into_iter().flatten()))
    }
}

/// Reads what a function gives to `ctx.cache.purge()`: a purge of what the cache in front has of it, no more.
///
/// # Errors
/// The first option that is not what it should be, for the function's author.
pub(crate) fn purge(text: &str, function: &FunctionName) -> Result<PurgeRequest, String> {
    const WHERE: &str = "ctx.cache.purge()";
    let said: Map<String, Value> = serde_json::from_str(text).map_err(|error| format!("{WHERE}: {error}"))?;
    let list = |name: &str| match said.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => {
            serde_json::from_value(value.clone()).map_err(|_| format!("{WHERE}: {name} must be an array of strings"))
        }
    };
    let (tags, prefixes) = (list("tags")?, list("pathPrefixes")?);
    let purge_everything = match said.get("purgeEverything") {
        None | Some(Value::Null) => false,
        Some(value) => value.as_bool().ok_or_else(|| format!("{WHERE}: purgeEverything must be true or false"))?,
    };
    let function = Some(function.clone());
    let request = PurgeRequest { tags, prefixes, purge_everything, function, ..PurgeRequest::default() };
    let named = |field| match field {
        "prefixes" => "pathPrefixes",
        "purge_everything" => "purgeEverything",
        other => other,
    };
    if !request.purge_everything && request.tags.is_empty() && request.prefixes.is_empty() {
        return Err(format!("{WHERE}: nothing to purge: give tags, pathPrefixes or purgeEverything"));
    }
    request.scopes(named).map_err(|why| format!("{WHERE}: {why}"))?;
    Ok(request)
}

fn expected(option: &str, what: &str, found: &Value) -> String {
    let mut found = found.to_string();
    if found.len() > 100 {
        found = found.chars().take(100).chain("...".chars()).collect();
    }
    format!("fetch(): {option} must be {what}, not {found}")
}

fn mode(value: Option<&Value>) -> Result<Mode, String> {
    Ok(match value.and_then(Value::as_str) {
        None | Some("default") => Mode::Default,
        Some("no-store") => Mode::NoStore,
        Some("reload") => Mode::Reload,
        Some("no-cache") => Mode::NoCache,
        Some("force-cache") => Mode::ForceCache,
        Some("only-if-cached") => Mode::OnlyIfCached,
        Some(other) => return Err(expected("cache", "a cache mode of the Fetch API", &other.into())),
    })
}

fn ttl(value: &Value) -> Result<Duration, String> {
    let seconds =
        value.as_u64().ok_or_else(|| expected("cf.cacheTtl", "a whole number of seconds, 0 or more", value))?;
    Ok(Duration::from_secs(seconds.min(MOST_SECONDS)))
}

fn ttl_by_status(value: &Value) -> Result<Vec<(std::ops::RangeInclusive<u16>, Ttl)>, String> {
    const WHAT: &str = "an object such as { \"200-299\": 86400, \"404\": 1, \"500-599\": -1 }";
    let wrong = || expected("cf.cacheTtlByStatus", WHAT, value);
    let given = value.as_object().filter(|given| given.len() <= MOST_STATUSES).ok_or_else(wrong)?;
    let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
    let mut ttls = Vec::with_capacity(given.len());
    for (statuses, seconds) in given {
        let (first, last) = statuses.split_once('-').unwrap_or((statuses, statuses));
        let range = status(first).zip(status(last)).filter(|(first, last)| first <= last).ok_or_else(wrong)?;
        let seconds = seconds.as_i64().ok_or_else(wrong)?;
        let ttl = u64::try_from(seconds).map(|seconds| Ttl::Lasts(Duration::from_secs(seconds.min(MOST_SECONDS))));
        ttls.push((range.0..=range.1, ttl.unwrap_or(Ttl::Never)));
    }
    // Of two that hold a status, the narrower one counts: JSON has no order.
    ttls.sort_by_key(|(range, _)| (range.end() - range.start(), *range.start()));
    Ok(ttls)
}

fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| expected("cf.cacheEverything", "true or false", value))
}

fn key(value: &Value) -> Result<String, String> {
    let key = value.as_str().filter(|key| !key.is_empty() && key.len() <= MOST_BYTES);
    key.map(str::to_owned).ok_or_else(|| expected("cf.cacheKey", "a string of 1 to 16384 bytes", value))
}

/// As one field value; `None` for no tags. A comma would make two of one, and a blank ends those that a purge names.
fn tags(value: &Value) -> Result<Option<HeaderValue>, String> {
    const WHAT: &str = "an array of tags: 1 to 1024 visible ASCII characters without commas, 16384 in all";
    let wrong = || expected("cf.cacheTags", WHAT, value);
    let is_tag = |tag: &&str| {
        (1..=MOST_TAG_BYTES).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
    };
    let given = value.as_array().ok_or_else(wrong)?;
    let tags: Option<Vec<&str>> = given.iter().map(|tag| tag.as_str().filter(is_tag)).collect();
    let line = tags.ok_or_else(wrong)?.join(",");
    if line.len() > MOST_BYTES {
        return Err(wrong());
    }
    let tags = HeaderValue::from_str(&line).map_err(|_| wrong())?;
    Ok((!line.is_empty()).then_some(tags))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(cf: &str) -> Result<Caching, String> {
        Caching::parse(&format!(r#"{{"cf":{cf},"cache":"default"}}"#), "f")
    }

    #[test]
    fn the_options_of_cloudflares_documentation_are_read() {
        let said = parse(
            r#"{ "cacheTtl": 5, "cacheEverything": true, "cacheKey": "k", "cacheTags": ["a", "b:1"], "country": "JP",
                 "cacheTtlByStatus": { "200-299": 86400, "404": 1, "500-599": 0, "400-499": -1 } }"#,
        );
        let said = said.unwrap();
        let lasts = |seconds| Ttl::Lasts(Duration::from_secs(seconds));
        let by_status =
            [(404..=404, lasts(1)), (200..=299, lasts(86_400)), (400..=499, Ttl::Never), (500..=599, lasts(0))];
        assert_eq!(said.overrides.ttl_by_status, by_status);
        assert_eq!((said.overrides.ttl, said.overrides.everything), (Some(Duration::from_secs(5)), true));
        assert_eq!((said.key.as_deref(), said.tags), (Some("k"), Some(HeaderValue::from_static("a,b:1"))));
        let mode = Caching::parse(r#"{"cache":"no-store"}"#, "f").unwrap().overrides.mode;
        assert_eq!(mode, Mode::NoStore);
    }

    #[test]
    fn an_option_that_is_wrong_is_named() {
        for (cf, named) in [
            (r#""x""#, "cf must be an object"),
            (r#"{"cacheTtl":"5"}"#, "cf.cacheTtl"),
            (r#"{"cacheTtl":-1}"#, "cf.cacheTtl"),
            (r#"{"cacheTtl":1.5}"#, "cf.cacheTtl"),
            (r#"{"cacheTtlByStatus":[]}"#, "cf.cacheTtlByStatus"),
            (r#"{"cacheTtlByStatus":{"2xx":1}}"#, "cf.cacheTtlByStatus"),
            (r#"{"cacheTtlByStatus":{"299-200":1}}"#, "cf.cacheTtlByStatus"),
            (r#"{"cacheTtlByStatus":{"200":"1"}}"#, "cf.cacheTtlByStatus"),
            (r#"{"cacheEverything":1}"#, "cf.cacheEverything"),
            (r#"{"cacheKey":""}"#, "cf.cacheKey"),
            (r#"{"cacheKey":7}"#, "cf.cacheKey"),
            (r#"{"cacheTags":"a"}"#, "cf.cacheTags"),
            (r#"{"cacheTags":["a,b"]}"#, "cf.cacheTags"),
            (r#"{"cacheTags":["a b"]}"#, "cf.cacheTags"),
            (r#"{"cacheTags":["a\n"]}"#, "cf.cacheTags"),
        ] {
            let error = parse(cf).unwrap_err();
            assert!(error.contains(named) && error.starts_with("fetch(): "), "{cf}: {error}");
        }
    }

    fn key_of(owner: &str, cf: &str, url: &str) -> Key {
        let said = Caching::parse(&format!(r#"{{"cf":{cf}}}"#), owner).unwrap();
        said.key(Key::of_uri(&url.parse().unwrap()).unwrap(), std::iter::once("x-host: a"))
    }

    #[test]
    fn what_a_function_shapes_is_its_own_and_what_it_does_not_is_shared() {
        let plain = Key::of_uri(&"http://h/a".parse().unwrap()).unwrap().with_parts(["x-host: a"]);
        assert_eq!(key_of("f", "{}", "http://h/a"), plain);
        for cf in [r#"{"cacheTtl":1}"#, r#"{"cacheEverything":true}"#, r#"{"cacheTags":["a"]}"#, r#"{"cacheKey":"k"}"#]
        {
            let key = key_of("f", cf, "http://h/a");
            assert!(key != plain && key != key_of("g", cf, "http://h/a"), "{cf}");
        }
        let named = r#"{"cacheKey":"http://h/a"}"#;
        assert_ne!(key_of("f", named, "http://h/a"), plain, "a key cannot pretend to be a URL's");
        assert_eq!(key_of("f", named, "http://h/b"), key_of("f", named, "http://h/a"));
    }

    proptest! {
        #[test]
        fn whatever_a_function_writes_is_read_or_refused(
            cf in r#"(\{"(cacheTtl|cacheKey|cacheTags|cacheTtlByStatus|cacheEverything)":(-?[0-9]{1,25}|"[^"\\]{0,9}"|\[[0-9,"]{0,9}\]|\{"[0-9-]{0,9}":-?[0-9]{1,22}\}|null|true)\})|.{0,20}"#,
        ) {
            let _ = parse(&cf);
        }
    }
}
