//! `fetch` with scripted origins and a clock that the test moves.

mod bodies;
mod collapsing;
mod conditions;
mod disk;
mod disk_model;
mod freshness;
mod heads;
mod large;
mod model;
mod overrides;
mod parts;
mod purges;
mod safety;
mod stale;
mod support;
