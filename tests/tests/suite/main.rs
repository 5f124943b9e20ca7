//! Skerry as its users meet it: real processes, sockets, the command line. One binary, a module for each subject.

mod bad_input;
mod cells;
mod cohort;
mod collapsing;
mod crash;
mod deploy;
mod fleet;
mod front_cache;
mod geo;
mod hello;
mod hostile_answers;
mod http;
mod http_cache_tests;
mod jwt;
mod limits;
mod lost;
mod metrics;
mod origin_protection;
mod poisoning;
mod purge;
mod rate_limit;
mod runtime;
mod site;
mod starts;
mod streaming;
mod tiers;
