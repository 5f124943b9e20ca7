//! What should run where, and what it costs: pure decisions, without I/O and without a clock of their own.
