//! One PoP: listeners, the request path, routing, host capabilities.
