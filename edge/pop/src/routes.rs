//! Which function answers a request.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use origin::bundle::{Digest, FunctionName, Isolation, RoutePattern};

use crate::function::Function;

/// The live functions of one manifest generation. Immutable: a change makes a new table.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Generation of the manifest; 0 before there is one.
    pub(crate) generation: u64,
    /// What is live under each name, for the next change to build on.
    pub(crate) live: HashMap<FunctionName, (Digest, Live)>,
    /// Most specific first, each with the function's name.
    table: Vec<(Arc<RoutePattern>, FunctionName, Live)>,
    /// Places in the table by the first segment of the path, for patterns that have a whole one.
    by_segment: HashMap<String, Vec<usize>>,
    /// The places of the other patterns.
    others: Vec<usize>,
    /// The versions that are live, as isolates know them.
    versions: HashSet<String>,
    /// The functions that are started before anybody asks.
    pub(crate) provisioned: Vec<Arc<Function>>,
    /// Whether one of them runs in a cell, as far as known.
    pub(crate) has_cells: bool,
}

/// A function, or why this PoP cannot run it.
#[derive(Clone, Debug)]
pub(crate) enum Live {
    Ready(Arc<Function>),
    /// On disk since the last run, and not read before it is asked for.
    Shelved(Arc<Shelved>),
    Damaged(Arc<str>),
}

/// A version that is on disk.
#[derive(Debug)]
pub(crate) struct Shelved {
    pub(crate) version: Digest,
    read: OnceLock<Result<Arc<Function>, Arc<str>>>,
}

impl Shelved {
    pub(crate) fn new(version: Digest) -> Self {
        Self { version, read: OnceLock::new() }
    }

    /// The function, read when this is the first to ask. `damaged` is called once, when everybody can see that it cannot be.
    pub(crate) fn function(
        &self,
        read: impl FnOnce(&Digest) -> Result<Function, String>,
        damaged: impl FnOnce(),
    ) -> Result<&Arc<Function>, &Arc<str>> {
        let mut first = false;
        let function = self.read.get_or_init(|| {
            first = true;
            read(&self.version).map(Arc::new).map_err(Into::into)
        });
        if first && function.is_err() {
            damaged();
        }
        function.as_ref()
    }
}

impl Live {
    /// The function, if it has been read.
    pub(crate) fn function(&self) -> Option<&Arc<Function>> {
        match self {
            Self::Ready(function) => Some(function),
            Self::Shelved(shelved) => shelved.read.get()?.as_ref().ok(),
            Self::Damaged(_) => None,
        }
    }

    /// Whether it can be run, as far as known.
    pub(crate) fn is_sound(&self) -> bool {
        match self {
            Self::Ready(function) => function.is_sound(),
            Self::Shelved(shelved) => match shelved.read.get() {
                Some(Ok(function)) => function.is_sound(),
                Some(Err(_)) => false,
                None => true,
            },
            Self::Damaged(_) => false,
        }
    }
}

/// What a lookup found.
pub(crate) enum Found<'a> {
    /// And the route that leads to it.
    Function(&'a Live, &'a Arc<RoutePattern>),
    UnknownHost,
    UnknownPath,
}

impl Routes {
    pub(crate) fn new(generation: u64, functions: Vec<(FunctionName, Digest, Vec<RoutePattern>, Live)>) -> Self {
        let mut routes = Self { generation, ..Self::default() };
        for (name, version, patterns, live) in functions {
            routes.table.extend(patterns.into_iter().map(|pattern| (Arc::new(pattern), name.clone(), live.clone())));
            routes.versions.insert(version.to_string());
            if let Live::Ready(function) = &live {
                routes.has_cells |= function.isolation == Isolation::Process;
                if function.min_ready > 0 {
                    routes.provisioned.push(Arc::clone(function));
                }
            }
            routes.live.insert(name, (version, live));
        }
        routes.table.sort_by_cached_key(|(pattern, ..)| pattern.specificity());
        for (place, (pattern, ..)) in routes.table.iter().enumerate() {
            match pattern.first_segment() {
                Some(segment) => routes.by_segment.entry(segment.to_owned()).or_default().push(place),
                None => routes.others.push(place),
            }
        }
        routes
    }

    /// The function for a host (lower case, no port) and a path. Patterns are compared with the path as it reads without
    /// escapes, so that no spelling of a path gets past the function that guards it.
    pub(crate) fn find(&self, host: &str, path: &str) -> Found<'_> {
        let path = &*percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let segment = path.strip_prefix('/').and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let narrow = self.by_segment.get(segment).map_or(&[][..], Vec::as_slice);
        let matches = |place: &&usize| {
            let (pattern, ..) = &self.table[**place];
            pattern.matches_host(host) && pattern.matches_path(path)
        };
        // Both lists are in the table's order: the first that matches in each is its most specific.
        let found = narrow.iter().find(matches).into_iter().chain(self.others.iter().find(matches)).min();
        match found {
            Some(place) => {
                let (pattern, _, live) = &self.table[*place];
                Found::Function(live, pattern)
            }
            None if self.table.iter().any(|(pattern, ..)| pattern.matches_host(host)) => Found::UnknownPath,
            None => Found::UnknownHost,
        }
    }

    /// The patterns of a live function.
    pub(crate) fn patterns(&self, name: &FunctionName) -> Vec<RoutePattern> {
        self.table
            .iter()
            .filter(|(_, owner, _)| owner == name)
            .map(|(pattern, ..)| RoutePattern::clone(pattern))
            .collect()
    }

    /// Whether a function is started before anybody asks.
    pub(crate) fn is_provisioned(&self, name: &FunctionName) -> bool {
        matches!(self.live.get(name), Some((_, Live::Ready(function))) if function.min_ready > 0)
    }

    /// The live function with this version.
    pub(crate) fn version(&self, version: &str) -> Option<Arc<Function>> {
        let mut functions = self.live.values().filter_map(|(_, live)| live.function());
        functions.find(|function| isolate::Source::version(&***function) == version).map(Arc::clone)
    }

    /// Whether a version is live.
    pub(crate) fn has(&self, version: &str) -> bool {
        self.versions.contains(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(routes: &Routes, host: &str, path: &str) -> String {
        match routes.find(host, path) {
            Found::Function(Live::Damaged(name), _) => name.to_string(),
            Found::Function(..) => "ready".to_owned(),
            Found::UnknownHost => "no host".to_owned(),
            Found::UnknownPath => "no path".to_owned(),
        }
    }

    #[test]
    fn whoever_is_told_of_a_damaged_version_sees_that_it_is_and_is_told_once() {
        let shelved = Arc::new(Shelved::new(Digest::of(b"")));
        let told = std::cell::Cell::new(0);
        for _ in 0..2 {
            let damaged = || {
                assert!(!Live::Shelved(Arc::clone(&shelved)).is_sound());
                told.set(told.get() + 1);
            };
            assert!(shelved.function(|_| Err("torn".to_owned()), damaged).is_err());
        }
        assert_eq!(told.get(), 1);
    }

    #[test]
    fn the_most_specific_pattern_wins_whichever_list_it_is_in() {
        let patterns = ["*/*", "*/a/*", "*/a", "*/a*", "x.org/*", "x.org/a/b*", "*.y.org/a/b", "z.org/pr\u{fc}fung/*"];
        let functions = patterns.iter().enumerate().map(|(i, pattern)| {
            let name: FunctionName = format!("f{i}").parse().unwrap();
            let pattern: RoutePattern = (*pattern).to_owned().try_into().unwrap();
            (name, Digest::of(b""), vec![pattern], Live::Damaged(patterns[i].into()))
        });
        let routes = Routes::new(1, functions.collect());
        for (host, path, expected) in [
            ("h", "/", "*/*"),
            ("h", "/a", "*/a"),
            ("h", "/a/", "*/a/*"),
            ("h", "/ab", "*/a*"),
            ("h", "/a/b/c", "*/a/*"),
            ("x.org", "/a/b", "x.org/a/b*"),
            ("x.org", "/a/bc", "x.org/a/b*"),
            ("x.org", "/a/c", "x.org/*"),
            ("w.y.org", "/a/b", "*.y.org/a/b"),
            ("w.y.org", "/%61/b", "*.y.org/a/b"),
            ("z.org", "/pr%C3%BCfung/1", "z.org/pr\u{fc}fung/*"),
        ] {
            assert_eq!(found(&routes, host, path), expected, "{host}{path}");
        }
        let one = vec![(
            "f".parse().unwrap(),
            Digest::of(b""),
            vec!["x.org/a".to_owned().try_into().unwrap()],
            Live::Damaged("f".into()),
        )];
        let routes = Routes::new(1, one);
        assert_eq!(found(&routes, "x.org", "/b"), "no path");
        assert_eq!(found(&routes, "y.org", "/a"), "no host");
    }
}
