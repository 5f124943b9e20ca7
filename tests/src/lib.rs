//! The harness and the one suite binary.
