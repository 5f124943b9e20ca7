//! Purges: what operators declare wrong before its time.
//!
//! A purge is a rule with a number, not a search through the store. Every stored response carries the number that was in
//! force when its request was sent; a look-up compares it with the latest number, and only where they differ asks the
//! rules in between. So a purge takes effect at once whatever it covers, also on what is still arriving and on what lies on
//! a disk that nobody has read yet; no index of tags is kept; and a hit costs one comparison. (Varnish's bans work
//! so; here, rules are looked up by hash instead of one after the other.)

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use http::HeaderMap;
use http::header::HeaderName;

use crate::key::Key;
use crate::policy::list;

/// Most rules that are told apart, and most bytes of their text. Past either, the older half of them becomes one: all
/// that was stored before counts as purged.
const MAX_RULES: usize = 1 << 16;
const MAX_RULE_BYTES: usize = 16 << 20;

/// What a purge covers. Schemes do not count, and a URI is meant with all its variants and key parts. Host and tags are
/// taken in lower case, default ports are left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One URI: `https://example.com/a?b`.
    Uri(String),
    /// All URIs that begin so: `example.com/a/`.
    Prefix(String),
    /// All URIs of a host, and port where it is not the default one.
    Host(String),
    /// All responses that name this in `Cache-Tag` (between commas) or `Surrogate-Key` (between spaces).
    Tag(String),
    /// Of what is stored for this owner ([`Key::owned`]), a part.
    Own(String, Part),
    /// All there is.
    Everything,
}

/// A part of what an owner has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// All whose path begins so, whatever their host: `/a/`.
    Prefix(String),
    /// All with this tag, as in [`Scope::Tag`].
    Tag(String),
    /// All.
    Everything,
}

/// What happens to a response that a purge covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It is gone.
    Hard,
    /// It is stale from then on: validated before it is sent, or sent stale where RFC 5861 allows it.
    Soft,
}

/// One purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Its place in the order of all purges, from 1.
    pub number: u64,
    /// What it covers.
    pub scope: Scope,
    /// What it does.
    pub mode: Mode,
    /// When it was ordered.
    pub at: SystemTime,
}

/// What the rules say of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    Kept,
    /// Stale since then.
    Stale(SystemTime),
    Purged,
}

/// The purges that are in force.
pub(crate) struct Purges {
    latest: AtomicU64,
    /// Until when it is sure that no purge is missing, in milliseconds since 1970.
    trusted_until: AtomicU64,
    rules: RwLock<Rules>,
}

#[derive(Default)]
struct Rules {
    everything: Marks,
    /// By what they name, without scheme.
    uris: HashMap<Box<str>, Marks>,
    hosts: HashMap<Box<str>, Marks>,
    tags: HashMap<Box<str>, Marks>,
    /// Ordered, so that the prefixes of a text are found without a look at the others.
    prefixes: BTreeMap<Box<str>, Marks>,
    /// Tags of owners, by [`own`].
    own_tags: HashMap<Box<str>, Marks>,
    /// Likewise, prefixes of paths; an empty one stands for everything.
    own_prefixes: BTreeMap<Box<str>, Marks>,
    /// All of the above but `everything`, the oldest first.
    order: VecDeque<(u64, Scope)>,
    bytes: usize,
}

/// The latest purges of one scope.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    hard: u64,
    soft: Option<(u64, SystemTime)>,
}

impl Marks {
    fn add(&mut self, purge: &Purge) {
        match purge.mode {
            Mode::Hard => self.hard = purge.number,
            Mode::Soft => self.soft = Some((purge.number, purge.at)),
        }
    }

    fn latest(&self) -> u64 {
        self.hard.max(self.soft.map_or(0, |(number, _)| number))
    }

    /// Both together, where they say something of a response with this number.
    fn judge(&self, number: u64, so_far: Judgement) -> Judgement {
        match (self.soft, so_far) {
            _ if self.hard > number => Judgement::Purged,
            (Some((soft, at)), Judgement::Kept) if soft > number => Judgement::Stale(at),
            (Some((soft, at)), Judgement::Stale(since)) if soft > number => Judgement::Stale(since.min(at)),
            _ => so_far,
        }
    }
}

impl Default for Purges {
    fn default() -> Self {
        Self { latest: AtomicU64::new(0), trusted_until: AtomicU64::new(u64::MAX), rules: RwLock::default() }
    }
}

/// Since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1)
}

impl Purges {
    /// The number of the last purge.
    pub(crate) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    pub(crate) fn fence(&self, fenced: bool) {
        self.trusted_until.store(if fenced { 0 } else { u64::MAX }, Ordering::Release);
    }

    pub(crate) fn trust_until(&self, time: SystemTime) {
        self.trusted_until.store(millis(time), Ordering::Release);
    }

    pub(crate) fn is_fenced(&self, now: SystemTime) -> bool {
        millis(now) >= self.trusted_until.load(Ordering::Acquire)
    }

    /// How many rules there are.
    pub(crate) fn rules(&self) -> usize {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).order.len()
    }

    pub(crate) fn add(&self, purge: &Purge) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        if purge.number > self.latest.load(Ordering::Relaxed) {
            rules.add(purge);
            // Under the lock: who sees the number finds the rule.
            self.latest.store(purge.number, Ordering::Release);
        }
    }

    /// What was purged since this number, of a response for this key.
    pub(crate) fn judge(&self, number: u64, key: &Key, response: &HeaderMap) -> Judgement {
        if number >= self.latest() {
            return Judgement::Kept;
        }
        self.rules.read().unwrap_or_else(PoisonError::into_inner).judge(number, key, response)
    }
}

impl Rules {
    fn add(&mut self, purge: &Purge) {
        let scope = normalised(&purge.scope);
        let marks = match &scope {
            Scope::Everything => {
                self.everything.add(purge);
                if purge.mode == Mode::Hard {
                    // It says all that the others did.
                    *self = Self { everything: self.everything, ..Self::default() };
                }
                return;
            }
            Scope::Uri(uri) => self.uris.entry(uri.as_str().into()).or_default(),
            Scope::Host(host) => self.hosts.entry(host.as_str().into()).or_default(),
            Scope::Tag(tag) => self.tags.entry(tag.as_str().into()).or_default(),
            Scope::Prefix(prefix) => self.prefixes.entry(prefix.as_str().into()).or_default(),
            Scope::Own(owner, Part::Tag(tag)) => self.own_tags.entry(own(owner, tag)).or_default(),
            Scope::Own(owner, part) => self.own_prefixes.entry(own(owner, path(part))).or_default(),
        };
        marks.add(purge);
        self.bytes += cost(&scope);
        self.order.push_back((purge.number, scope));
        if self.order.len() > MAX_RULES || self.bytes > MAX_RULE_BYTES {
            self.fold(self.order.len() / 2);
        }
    }

    /// Makes one of the oldest rules.
    fn fold(&mut self, count: usize) {
        for (number, scope) in self.order.drain(..count) {
            self.bytes -= cost(&scope);
            self.everything.hard = self.everything.hard.max(number);
            // Where a younger rule names the same, it stays.
            let old = |marks: &Marks| marks.latest() <= number;
            match scope {
                Scope::Uri(uri) => drop_if(&mut self.uris, &uri, old),
                Scope::Host(host) => drop_if(&mut self.hosts, &host, old),
                Scope::Tag(tag) => drop_if(&mut self.tags, &tag, old),
                Scope::Prefix(prefix) => drop_prefix_if(&mut self.prefixes, &prefix, old),
                Scope::Own(owner, Part::Tag(tag)) => drop_if(&mut self.own_tags, &own(&owner, &tag), old),
                Scope::Own(owner, part) => drop_prefix_if(&mut self.own_prefixes, &own(&owner, path(&part)), old),
                Scope::Everything => {}
            }
        }
    }

    fn judge(&self, number: u64, key: &Key, response: &HeaderMap) -> Judgement {
        let uri = without_scheme(key.uri());
        let host = &uri[..uri.find('/').unwrap_or(uri.len())];
        let mut judgement = self.everything.judge(number, Judgement::Kept);
        let mut take = |marks: Option<&Marks>| {
            judgement = marks.map_or(judgement, |marks| marks.judge(number, judgement));
        };
        take(self.uris.get(uri));
        take(self.hosts.get(host));
        prefixes(&self.prefixes, uri, |marks| take(Some(marks)));
        if !self.tags.is_empty() {
            tags(response).for_each(|tag| take(self.tags.get(tag.as_str())));
        }
        if let Some(owner) = key.owner().filter(|_| !self.own_tags.is_empty() || !self.own_prefixes.is_empty()) {
            prefixes(&self.own_prefixes, &own(owner, &uri[host.len()..]), |marks| take(Some(marks)));
            tags(response).for_each(|tag| take(self.own_tags.get(&own(owner, &tag))));
        }
        judgement
    }
}

fn drop_if(rules: &mut HashMap<Box<str>, Marks>, name: &str, old: impl Fn(&Marks) -> bool) {
    if rules.get(name).is_some_and(old) {
        rules.remove(name);
    }
}

fn drop_prefix_if(rules: &mut BTreeMap<Box<str>, Marks>, name: &str, old: impl Fn(&Marks) -> bool) {
    if rules.get(name).is_some_and(old) {
        rules.remove(name);
    }
}

/// The name of a rule for what an owner has.
fn own(owner: &str, what: &str) -> Box<str> {
    // The length says where the one ends.
    format!("{}:{owner}{what}", owner.len()).into()
}

/// How all the paths of a part begin.
fn path(part: &Part) -> &str {
    match part {
        Part::Prefix(prefix) => prefix,
        Part::Tag(_) | Part::Everything => "",
    }
}

/// What a rule takes, about: its text is there twice.
fn cost(scope: &Scope) -> usize {
    let text = match scope {
        Scope::Uri(text) | Scope::Prefix(text) | Scope::Host(text) | Scope::Tag(text) => text.len(),
        Scope::Own(owner, Part::Prefix(text) | Part::Tag(text)) => owner.len() + text.len(),
        Scope::Own(owner, Part::Everything) => owner.len(),
        Scope::Everything => 0,
    };
    2 * text + 128
}

/// Calls `found` for every rule whose name `text` begins with.
fn prefixes<'a>(rules: &'a BTreeMap<Box<str>, Marks>, text: &str, mut found: impl FnMut(&'a Marks)) {
    let mut end = text.len();
    // The last name that is not behind the text is a prefix of it, or shows how long one can be at most.
    while let Some((name, marks)) = rules.range::<str, _>((Bound::Unbounded, Bound::Included(&text[..end]))).next_back()
    {
        let common = text.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        if common == name.len() {
            found(marks);
            if common == 0 {
                return;
            }
            end = floor_boundary(text, common - 1);
        } else {
            end = floor_boundary(text, common);
        }
    }
}

fn floor_boundary(text: &str, mut index: usize) -> usize {
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// The tags of a response, in lower case.
fn tags(response: &HeaderMap) -> impl Iterator<Item = String> {
    const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
    const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
    let lower = |tag: &[u8]| String::from_utf8_lossy(tag).to_ascii_lowercase();
    let commas = response.get_all(CACHE_TAG).into_iter().flat_map(|line| list::split(line.as_bytes(), b','));
    let spaces = response.get_all(SURROGATE_KEY).into_iter().flat_map(|line| line.as_bytes().split(|b| *b == b' '));
    commas.chain(spaces).filter(|tag| !tag.is_empty()).map(lower)
}

fn normalised(scope: &Scope) -> Scope {
    match scope {
        Scope::Uri(uri) => {
            let key = uri.parse().ok().and_then(|uri| Key::of_uri(&uri));
            Scope::Uri(key.map_or_else(|| located(uri), |key| without_scheme(key.uri()).to_owned()))
        }
        Scope::Prefix(prefix) => Scope::Prefix(located(prefix)),
        Scope::Host(host) => Scope::Host(located(host).trim_end_matches('/').to_owned()),
        Scope::Tag(tag) => Scope::Tag(lower(tag)),
        Scope::Own(owner, Part::Tag(tag)) => Scope::Own(owner.clone(), Part::Tag(lower(tag))),
        Scope::Own(..) => scope.clone(),
        Scope::Everything => Scope::Everything,
    }
}

fn lower(tag: &str) -> String {
    tag.trim().to_ascii_lowercase()
}

/// Host and path, the host in lower case and without a default port.
fn located(text: &str) -> String {
    let default_port = if text.starts_with("https:") { ":443" } else { ":80" };
    let text = without_scheme(text);
    let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    // Without a path behind it, the host of a prefix may be half a host.
    let host = if path.is_empty() { host } else { host.strip_suffix(default_port).unwrap_or(host) };
    host.to_ascii_lowercase() + path
}

fn without_scheme(uri: &str) -> &str {
    uri.split_once("://").map_or(uri, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn key(uri: &str) -> Key {
        Key::of_uri(&uri.parse().unwrap()).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn purges(scopes: &[(Scope, Mode)]) -> Purges {
        let purges = Purges::default();
        for (number, (scope, mode)) in (1..).zip(scopes) {
            purges.add(&Purge { number, scope: scope.clone(), mode: *mode, at: at(number) });
        }
        purges
    }

    fn judge(scope: Scope, uri: &str) -> Judgement {
        let mut headers = HeaderMap::new();
        headers.append("cache-tag", "News, team-A ".parse().unwrap());
        headers.append("cache-tag", "c".parse().unwrap());
        headers.append("surrogate-key", "k1 k2".parse().unwrap());
        purges(&[(scope, Mode::Hard)]).judge(0, &key(uri), &headers)
    }

    #[test]
    fn a_scope_covers_what_it_names_and_nothing_beside_it() {
        let uri = "http://example.com/a/b?c";
        for scope in [
            Scope::Uri("https://Example.COM:443/a/b?c".into()),
            Scope::Uri("http://example.com:80/a/b?c".into()),
            Scope::Prefix("Example.com/a/".into()),
            Scope::Prefix("https://example.com/a/b?c".into()),
            Scope::Prefix("example.c".into()),
            Scope::Host("EXAMPLE.com".into()),
            Scope::Tag("NEWS".into()),
            Scope::Tag("team-a".into()),
            Scope::Tag("c".into()),
            Scope::Tag("k2".into()),
            Scope::Everything,
        ] {
            assert_eq!(judge(scope.clone(), uri), Judgement::Purged, "{scope:?}");
        }
        for scope in [
            Scope::Uri("http://example.com/a/b".into()),
            Scope::Uri("http://example.com:8080/a/b?c".into()),
            Scope::Uri("http://example.com/A/b?c".into()),
            Scope::Prefix("example.com/b".into()),
            Scope::Prefix("example.com/a/b?c&".into()),
            Scope::Host("example.co".into()),
            Scope::Host("com".into()),
            Scope::Tag("new".into()),
            Scope::Tag("k1 k2".into()),
        ] {
            assert_eq!(judge(scope.clone(), uri), Judgement::Kept, "{scope:?}");
        }
    }

    #[test]
    fn what_an_owner_purges_is_its_own_whatever_the_host() {
        let headers: HeaderMap =
            [(http::HeaderName::from_static("cache-tag"), "News".parse().unwrap())].into_iter().collect();
        let own = |part| Scope::Own("says".into(), part);
        let covered = [
            own(Part::Prefix("/a".into())),
            own(Part::Prefix("/a/b?c".into())),
            own(Part::Tag("NEWS".into())),
            own(Part::Everything),
        ];
        let beside = [own(Part::Prefix("/b".into())), own(Part::Prefix("/A".into())), own(Part::Tag("new".into()))];
        let keys = ["http://h/a/b?c", "https://other:8443/a/b?c"].map(key);
        for key in keys {
            let mine = key.clone().owned("says", ["v1"]);
            let others = [
                key.clone(),
                key.clone().owned("say", ["v1"]),
                key.clone().owned("says2", []),
                key.with_parts(["says"]),
            ];
            for scope in &covered {
                let purges = purges(&[(scope.clone(), Mode::Hard)]);
                assert_eq!(purges.judge(0, &mine, &headers), Judgement::Purged, "{scope:?}");
                for other in &others {
                    assert_eq!(purges.judge(0, other, &headers), Judgement::Kept, "{scope:?} {other:?}");
                }
            }
            for scope in &beside {
                let purges = purges(&[(scope.clone(), Mode::Hard)]);
                assert_eq!(purges.judge(0, &mine, &headers), Judgement::Kept, "{scope:?}");
            }
        }
    }

    #[test]
    fn only_what_is_older_than_a_purge_is_covered() {
        let purges = purges(&[(Scope::Host("h".into()), Mode::Hard), (Scope::Tag("x".into()), Mode::Hard)]);
        let judge = |number| purges.judge(number, &key("http://h/"), &HeaderMap::new());
        assert_eq!((judge(0), judge(1), judge(2)), (Judgement::Purged, Judgement::Kept, Judgement::Kept));
        purges.add(&Purge { number: 2, scope: Scope::Everything, mode: Mode::Hard, at: at(9) });
        assert_eq!(judge(1), Judgement::Kept, "a number that was there has no effect");
    }

    #[test]
    fn a_soft_purge_says_since_when_and_a_hard_one_wins() {
        let soft = purges(&[(Scope::Host("h".into()), Mode::Soft), (Scope::Prefix("h/a".into()), Mode::Soft)]);
        let judge = |number| soft.judge(number, &key("http://h/ab"), &HeaderMap::new());
        assert_eq!((judge(0), judge(1)), (Judgement::Stale(at(1)), Judgement::Stale(at(2))));
        let both = purges(&[(Scope::Host("h".into()), Mode::Soft), (Scope::Host("h".into()), Mode::Hard)]);
        assert_eq!(both.judge(0, &key("http://h/"), &HeaderMap::new()), Judgement::Purged);
    }

    #[test]
    fn too_many_rules_become_one_that_covers_more() {
        let purges = Purges::default();
        for number in 1..=MAX_RULES as u64 + 1 {
            purges.add(&Purge { number, scope: Scope::Tag(format!("t{number}")), mode: Mode::Hard, at: at(0) });
        }
        assert!(purges.rules() <= MAX_RULES / 2 + 1);
        let judge = |number| purges.judge(number, &key("http://h/"), &HeaderMap::new());
        assert_eq!(judge(0), Judgement::Purged, "its rule is not told apart any more");
        assert_eq!(judge(MAX_RULES as u64 - 1), Judgement::Kept);
        purges.add(&Purge { number: 1 << 20, scope: Scope::Everything, mode: Mode::Hard, at: at(0) });
        assert_eq!(purges.rules(), 0);
    }

    proptest! {
        #[test]
        fn every_prefix_is_found(names in proptest::collection::vec("[aä/]{0,6}", 0..12), text in "[aä/]{0,8}") {
            let rules: BTreeMap<Box<str>, Marks> = (1..).zip(&names)
                .map(|(hard, name)| (name.as_str().into(), Marks { hard, soft: None }))
                .collect();
            let mut expect: Vec<_> =
                rules.iter().filter(|(name, _)| text.starts_with(&***name)).map(|(_, marks)| marks.hard).collect();
            let mut got = Vec::new();
            prefixes(&rules, &text, |marks| got.push(marks.hard));
            got.sort_unstable();
            expect.sort_unstable();
            prop_assert_eq!(got, expect);
        }
    }
}
