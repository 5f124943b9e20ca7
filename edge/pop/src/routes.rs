//! Which function answers a request.

use std::collections::HashMap;
use std::sync::Arc;

use origin::bundle::{Digest, FunctionName, RoutePattern};

use crate::function::Function;

/// The live functions of one manifest generation. Immutable: a change makes a new table.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Generation of the manifest; 0 before there is one.
    pub(crate) generation: u64,
    /// What is live under each name, for the next change to build on.
    pub(crate) live: HashMap<FunctionName, (Digest, Live)>,
    /// Most specific first, each with the function's name.
    table: Vec<(RoutePattern, FunctionName, Live)>,
}

/// A function, or why this PoP cannot run it.
#[derive(Clone, Debug)]
pub(crate) enum Live {
    Ready(Arc<Function>),
    Damaged(Arc<str>),
}

/// What a lookup found.
pub(crate) enum Found<'a> {
    Function(&'a Live),
    UnknownHost,
    UnknownPath,
}

impl Routes {
    pub(crate) fn new(generation: u64, functions: Vec<(FunctionName, Digest, Vec<RoutePattern>, Live)>) -> Self {
        let mut routes = Self { generation, ..Self::default() };
        for (name, version, patterns, live) in functions {
            routes.table.extend(patterns.into_iter().map(|pattern| (pattern, name.clone(), live.clone())));
            routes.live.insert(name, (version, live));
        }
        routes.table.sort_by_cached_key(|(pattern, ..)| pattern.specificity());
        routes
    }

    /// The function for a host (lower case, no port) and a path. Patterns are compared with the path as it reads without
    /// escapes, so that no spelling of a path gets past the function that guards it.
    pub(crate) fn find(&self, host: &str, path: &str) -> Found<'_> {
        let path = &*percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let mut known_host = false;
        for (pattern, _, live) in &self.table {
            if pattern.matches_host(host) {
                if pattern.matches_path(path) {
                    return Found::Function(live);
                }
                known_host = true;
            }
        }
        if known_host { Found::UnknownPath } else { Found::UnknownHost }
    }

    /// The patterns of a live function.
    pub(crate) fn patterns(&self, name: &FunctionName) -> Vec<RoutePattern> {
        self.table.iter().filter(|(_, owner, _)| owner == name).map(|(pattern, ..)| pattern.clone()).collect()
    }

    /// The versions of the programs that are live.
    pub(crate) fn versions(&self) -> impl Iterator<Item = String> {
        self.live.values().filter_map(|(_, live)| match live {
            Live::Ready(function) => Some(function.program.version.clone()),
            Live::Damaged(_) => None,
        })
    }
}
