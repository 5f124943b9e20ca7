//! A world for code that is only compiled: when a code cache is made, and when the snapshot is.

use std::rc::Rc;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use http_body_util::BodyExt as _;

use crate::invocation::{Body, CacheCall, Capabilities};

/// What a function finds around it then: answers of the right shape, and nothing behind them.
pub(crate) struct Nowhere;

impl Capabilities for Nowhere {
    fn url(&self, head: &http::request::Parts) -> String {
        format!("http://localhost{}", head.uri)
    }

    fn complete(&self, _headers: &mut http::HeaderMap) {}

    fn cf(&self) -> String {
        "{}".to_owned()
    }

    fn fetch(
        self: Rc<Self>,
        _request: http::Request<Body>,
        _cf: String,
    ) -> LocalBoxFuture<'static, Result<http::Response<Body>, String>> {
        std::future::ready(Ok(http::Response::new(empty()))).boxed_local()
    }

    fn cache(
        self: Rc<Self>,
        _name: String,
        _request: http::Request<()>,
        _call: CacheCall,
    ) -> LocalBoxFuture<'static, Result<Option<http::Response<Body>>, String>> {
        std::future::ready(Ok(None)).boxed_local()
    }

    fn call(&self, _binding: &str, _method: &str, _argument: &str) -> Result<String, String> {
        Ok(ANSWER.to_owned())
    }

    fn call_async(&self, _: String, _: String, _: String) -> LocalBoxFuture<'static, Result<String, String>> {
        std::future::ready(Ok(ANSWER.to_owned())).boxed_local()
    }

    fn log(&self, _level: u8, _text: &str) {}

    fn own_log(&self, _: u8, _: &str) {}
}

/// The fields of every binding's answer at once.
const ANSWER: &str = r#"{"success":true,"limit":1,"remaining":1,"reset":0,"retryAfter":0,"headers":{},"ok":true,"subject":"","claims":{},"cohort":"","isNew":false,"setCookie":null}"#;

pub(crate) fn empty() -> Body {
    Box::pin(http_body_util::Empty::new().map_err(|never| match never {}))
}
