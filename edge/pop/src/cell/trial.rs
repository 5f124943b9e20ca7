//! Trying a version in a cell of its own, before it is live.

use std::sync::Arc;

use isolate::CodeCache;

use super::loss::Pids;
use super::outside::{Maker, Outside};
use crate::fault::Fault;
use crate::function::Function;
use crate::state::State;

/// As [`isolate::Trial::compile`], in a cell that ends with it: what such a function compiles to was made by the function's
/// own process, and is for its cells alone.
///
/// # Errors
/// Why it does not start.
pub(crate) async fn compile(
    state: &Arc<State>,
    maker: Option<&Maker>,
    function: &Arc<Function>,
    paths: &[&str],
) -> Result<Option<CodeCache>, Fault> {
    let none = "this PoP was started without the program that is a cell";
    let maker = maker.ok_or_else(|| Fault::NoCell(none.to_owned()))?;
    let cell = Outside::start(state, maker, &Pids::default());
    let cell = Dismissed(cell.map_err(|error| Fault::NoCell(format!("no process: {error}")))?);
    cell.0.ready().await.map_err(Fault::NoCell)?;
    cell.0.compile(function, paths).await
}

/// A cell that ends on every way out.
struct Dismissed(std::rc::Rc<Outside>);

impl Drop for Dismissed {
    fn drop(&mut self) {
        self.0.dismiss(None);
    }
}
