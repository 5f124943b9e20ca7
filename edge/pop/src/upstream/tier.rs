//! The tier between PoPs and their origin: shields.
//!
//! A shield is a PoP that others ask instead of the origin, so that what all of them want costs the origin one request. For
//! each URI and set of assets one shield is chosen among all by rendezvous hashing: a shield that goes takes only its own
//! share with it. A PoP that is chosen itself asks the origin.
//!
//! The request names its URL and assets in fields of its own beside a pass, which only who knows the fleet's token can make.
//! It comes in behind position: the shield looks into its cache and else asks the origin, never a function and never another
//! shield, so there is no way round in circles. Unsafe methods take the same way, so that the shield learns what they
//! invalidate. A shield that fails is left alone for a while and the origin asked directly.

use std::sync::Arc;

use cache::{FailureKind, OriginFailure};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri};
use origin::bundle::Digest;

use super::failure;
use super::origins::Origin;
use crate::config::Protection;
use crate::fault::Fault;

const PASS: HeaderName = HeaderName::from_static("x-skerry-tier");
const URL: HeaderName = HeaderName::from_static("x-skerry-tier-url");
const ASSETS: HeaderName = HeaderName::from_static("x-skerry-tier-assets");
/// The last purge that is in force where the request comes from.
const PURGED: HeaderName = HeaderName::from_static("x-skerry-tier-purged");
/// Says that a response is the shield's own.
pub(crate) const OWN: HeaderName = HeaderName::from_static("x-skerry-tier-own");

/// Takes out of a request what is between PoPs alone, whoever wrote it there.
pub(super) fn strip(headers: &mut HeaderMap) {
    for name in [PASS, URL, ASSETS, PURGED] {
        headers.remove(name);
    }
}

/// A PoP that others ask.
#[derive(Debug)]
pub(crate) struct Shield {
    name: String,
    pub(super) url: Uri,
    pub(super) origin: Arc<Origin>,
}

/// The shields of a fleet, and what PoPs know each other by.
#[derive(Debug)]
pub(crate) struct Tier {
    shields: Vec<Arc<Shield>>,
    pass: HeaderValue,
    /// Digests are compared: how long that takes says nothing about the pass.
    expected: Digest,
}

/// What a PoP asks of its shield.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) url: Uri,
    pub(crate) assets: String,
    /// What the shield has stored counts only when it has had this purge.
    pub(crate) purged: u64,
}

impl Tier {
    pub(crate) fn new(shields: &[crate::config::Shield], token: &str, protection: &Protection) -> Self {
        // The token itself opens more, so it is not what goes over the wire.
        let pass = Digest::of(format!("skerry tier\n{token}").as_bytes()).to_string();
        let shields = shields.iter().map(|shield| {
            let origin = Arc::new(Origin::shield(protection));
            Arc::new(Shield { name: shield.name.clone(), url: shield.url.clone(), origin })
        });
        Self {
            shields: shields.collect(),
            expected: Digest::of(pass.as_bytes()),
            pass: HeaderValue::from_str(&pass).unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// Whom the PoP `own` asks for this; `None` is the origin.
    pub(crate) fn choose(&self, own: &str, uri: &Uri, assets: &str) -> Option<Arc<Shield>> {
        let (host, path) = (uri.authority()?.as_str(), uri.path_and_query().map_or("/", |path| path.as_str()));
        let weight = |shield: &&Arc<Shield>| hash([&shield.name, host, path, assets]);
        let chosen = self.shields.iter().max_by_key(weight)?;
        (chosen.name != own).then(|| Arc::clone(chosen))
    }

    /// Makes a request one for a shield. `purged` is the last purge that this PoP has had; [`u64::MAX`] where nothing stored
    /// will do.
    pub(super) fn seal(&self, head: &mut Parts, assets: &str, purged: u64) -> Result<(), OriginFailure> {
        let text = |text: &str| HeaderValue::from_str(text).map_err(|error| failure(FailureKind::Unreachable, error));
        head.headers.insert(URL, text(&head.uri.to_string())?);
        head.headers.insert(ASSETS, text(assets)?);
        head.headers.insert(PURGED, purged.into());
        head.headers.insert(PASS, self.pass.clone());
        Ok(())
    }

    /// What another PoP asks; `None` where it is no PoP that asks. Takes the fields out.
    pub(crate) fn open(&self, head: &mut Parts) -> Result<Option<Errand>, Fault> {
        let Some(pass) = head.headers.remove(PASS) else { return Ok(None) };
        let (url, assets) = (head.headers.remove(URL), head.headers.remove(ASSETS));
        let purged = head.headers.remove(PURGED);
        if Digest::of(pass.as_bytes()) != self.expected {
            return Err(Fault::NoPeer);
        }
        let text = |value: Option<HeaderValue>| value.and_then(|value| value.to_str().map(str::to_owned).ok());
        let url: Option<Uri> = text(url).and_then(|url| url.parse().ok()).filter(|url: &Uri| url.authority().is_some());
        match (url, text(assets)) {
            (Some(url), Some(assets)) => {
                let purged = text(purged).and_then(|number| number.parse().ok()).unwrap_or_default();
                Ok(Some(Errand { url, assets, purged }))
            }
            _ => Err(Fault::Target("another PoP asks without telling for what")),
        }
    }

    /// All of them.
    pub(crate) fn shields(&self) -> Vec<Arc<Origin>> {
        self.shields.iter().map(|shield| Arc::clone(&shield.origin)).collect()
    }
}

/// What a shield's response is for who asked it.
pub(super) enum Answer {
    /// What the origin says.
    Origin,
    /// The origin gave none, as the shield found out.
    Failed(FailureKind),
    /// The shield itself cannot serve now.
    Unable,
}

pub(super) fn classify<B>(response: &Response<B>) -> Answer {
    if !response.headers().contains_key(OWN) {
        return Answer::Origin;
    }
    match response.headers().get("x-skerry-error").map_or(&b""[..], HeaderValue::as_bytes) {
        b"origin/timed-out" => Answer::Failed(FailureKind::TimedOut),
        b"origin/corrupt" => Answer::Failed(FailureKind::Corrupt),
        b"origin/circuit-open" => Answer::Failed(FailureKind::Withheld),
        b"origin/unreachable" => Answer::Failed(FailureKind::Unreachable),
        b"overload/origin-busy" => Answer::Failed(FailureKind::Busy),
        _ => Answer::Unable,
    }
}

/// The same number in every process and version: FNV-1a over the parts, and a finish that lets every bit count
/// (`SplitMix64`).
fn hash<const N: usize>(parts: [&str; N]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    let mut hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn tier(names: &[&str]) -> Tier {
        let shield = |name: &&str| crate::config::Shield {
            name: (*name).to_owned(),
            url: Uri::from_static("http://127.0.0.1:1"),
        };
        Tier::new(&names.iter().map(shield).collect::<Vec<_>>(), "token", &Protection::default())
    }

    fn chosen(tier: &Tier, own: &str, page: usize) -> Option<String> {
        let uri: Uri = format!("http://a.example/page/{page}?q").parse().unwrap();
        tier.choose(own, &uri, "f/1").map(|shield| shield.name.clone())
    }

    #[test]
    fn pages_are_spread_evenly_and_a_shield_that_goes_takes_only_its_own_share_with_it() {
        let (all, fewer) = (tier(&["lhr", "iad", "nrt"]), tier(&["nrt", "lhr"]));
        let mut shares = HashMap::new();
        for page in 0..3000 {
            let shield = chosen(&all, "syd", page).unwrap();
            let left = chosen(&fewer, "syd", page).unwrap();
            assert!(shield == left || shield == "iad", "{page} moved from {shield} to {left}");
            *shares.entry(shield).or_insert(0) += 1;
        }
        assert!(shares.values().all(|share| (900..1100).contains(share)), "{shares:?}");
    }

    #[test]
    fn who_is_chosen_asks_the_origin_and_without_shields_everybody_does() {
        let all = tier(&["lhr", "iad"]);
        for page in 0..100 {
            let shield = chosen(&all, "syd", page).unwrap();
            assert_eq!(chosen(&all, &shield, page), None);
        }
        assert_eq!(chosen(&tier(&[]), "lhr", 1), None);
    }

    #[test]
    fn only_who_knows_the_token_is_let_in_and_the_pass_goes_no_further() {
        let ours = tier(&["lhr"]);
        let (mut head, ()) = http::Request::get("https://a.example/x?y").body(()).unwrap().into_parts();
        assert!(matches!(ours.open(&mut head), Ok(None)));
        ours.seal(&mut head, "f/1", 7).unwrap();
        let mut stolen = head.clone();
        let errand = ours.open(&mut head).unwrap().unwrap();
        assert_eq!((errand.url.to_string().as_str(), errand.assets.as_str()), ("https://a.example/x?y", "f/1"));
        assert!(head.headers.is_empty());
        let others = Tier::new(&[], "another token", &Protection::default());
        assert!(matches!(others.open(&mut stolen), Err(Fault::NoPeer)));
    }
}
