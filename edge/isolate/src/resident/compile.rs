//! Making a code cache: what V8 has compiled of a program once it has been called.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use deno_core::v8;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use http_body_util::BodyExt as _;

use super::Resident;
use crate::code_cache::CodeCache;
use crate::invocation::{Body, Capabilities};
use crate::program::specifier;

/// A call that takes longer is given up: it has compiled what it has.
const CALL: Duration = Duration::from_secs(1);

impl Resident {
    /// Calls the handler once for each path, so that the functions that a request needs are compiled, and takes what V8
    /// has of each module then.
    pub(crate) async fn compile(self: &Rc<Self>, paths: &[String]) -> CodeCache {
        for path in paths {
            let request = http::Request::builder().uri(path).body(empty());
            let Ok(request) = request else { continue };
            let called = async {
                let answered = self.invoke(request, Rc::new(Nowhere)).await;
                // Its body may be streamed by the function.
                if let Ok(response) = answered {
                    let _ = response.into_body().collect().await;
                }
            };
            let _ = tokio::time::timeout(CALL, called).await;
        }
        let modules = self.program.modules.keys().filter(|path| !path.ends_with(".json"));
        CodeCache(modules.filter_map(|path| Some((path.clone(), self.compiled(path)?))).collect())
    }

    /// V8's code cache of one module. Compiling what is compiled already gives what is there, with all that has been
    /// compiled of it since.
    fn compiled(&self, path: &str) -> Option<Arc<[u8]>> {
        let source = &self.program.modules.get(path)?.source;
        let name = specifier(path).ok()?;
        self.blank.borrow_mut().isolate.with(|runtime| {
            deno_core::scope!(scope, runtime);
            let source = v8::String::new(scope, source)?;
            let name = v8::String::new(scope, name.as_str())?.into();
            let origin = v8::ScriptOrigin::new(scope, name, 0, 0, false, 0, None, false, false, true, None);
            let mut source = v8::script_compiler::Source::new(source, Some(&origin));
            let module = v8::script_compiler::compile_module(scope, &mut source)?;
            let cache = module.get_unbound_module_script(scope).create_code_cache()?;
            Some(Arc::from(&**cache))
        })
    }
}

/// What a function finds around it while it is only compiled: answers of the right shape, and nothing behind them.
struct Nowhere;

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

    fn call(&self, _binding: &str, _method: &str, _argument: &str) -> Result<String, String> {
        Ok(ANSWER.to_owned())
    }

    fn call_async(&self, _: String, _: String, _: String) -> LocalBoxFuture<'static, Result<String, String>> {
        std::future::ready(Ok(ANSWER.to_owned())).boxed_local()
    }

    fn log(&self, _level: u8, _text: &str) {}
}

/// The fields of every binding's answer at once.
const ANSWER: &str = r#"{"success":true,"limit":1,"remaining":1,"reset":0,"retryAfter":0,"headers":{},"ok":true,"subject":"","claims":{},"cohort":"","isNew":false,"setCookie":null}"#;

fn empty() -> Body {
    Box::pin(http_body_util::Empty::new().map_err(|never| match never {}))
}
