//! The admin listener of a PoP: a thread of its own, so that it answers when every worker is stuck.
//!
//! ```text
//! GET, HEAD   /health    200 when this PoP can serve, 503 when it cannot; for anybody
//! GET, HEAD   /metrics   what it counts, for Prometheus; with the token
//! GET, HEAD   /scale     what it has under way, for autoscalers, as JSON; with the token
//! ```

use std::net::TcpListener;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use origin::token::Token;
use tokio::sync::watch;

use crate::fault::problem;
use crate::load::Report;
use crate::metrics::{Format, page};
use crate::request::ready;
use crate::state::State;

/// Serves until the sender of `gone` is.
pub(crate) async fn serve(
    state: Arc<State>,
    token: Token,
    listener: TcpListener,
    gone: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tracing::info!(pop = %state.name, address = %listener.local_addr()?, "the admin listener is up");
    let token = Arc::new(token);
    origin::listener::serve(listener, gone, move |request| {
        let response = answer(&state, &token, &request);
        async move { response.map(Full::new) }
    })
    .await;
    Ok(())
}

fn answer(state: &State, token: &Token, request: &Request<Incoming>) -> Response<Bytes> {
    let path = request.uri().path();
    if !["/health", "/metrics", "/scale"].contains(&path) {
        let message = "there is nothing at this path; GET /health, /metrics and /scale are what is here";
        return problem(StatusCode::NOT_FOUND, "request/not-found", message, None);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let message = "this path is only to be read";
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "request/method", message, None);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let (content_type, text) = if path == "/health" {
        match ready(state) {
            Ok(()) => ("text/plain; charset=utf-8", "ok\n".to_owned()),
            Err(fault) => return fault.response(None),
        }
    } else {
        if let Err(challenge) = token.check(request.headers()) {
            let message = "metrics are shown to who has the token of this listener: Authorization: Bearer ...";
            let mut response = problem(StatusCode::UNAUTHORIZED, "auth/token", message, None);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            return response;
        }
        if path == "/scale" {
            let report = Report::new(state, ready(state).is_ok(), crate::metrics::cpu());
            ("application/json", serde_json::to_string(&report).unwrap_or_default())
        } else {
            let format = Format::of(request.headers());
            (format.content_type(), page(state, format))
        }
    };
    let mut response = Response::new(Bytes::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
