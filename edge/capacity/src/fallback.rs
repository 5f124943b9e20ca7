//! Where a request runs: here at the edge, or in the region.
