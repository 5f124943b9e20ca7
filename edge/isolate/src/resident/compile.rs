//! Making a code cache: what V8 has compiled of a program once it has been called.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use deno_core::v8;
use http_body_util::BodyExt as _;

use super::Resident;
use crate::code_cache::CodeCache;
use crate::nowhere::{Nowhere, empty};
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
