//! The one binary, `skerry`.
fn main() {}
