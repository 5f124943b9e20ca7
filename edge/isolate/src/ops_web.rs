//! Small ops behind single web APIs.

use std::sync::Arc;

use deno_core::convert::Uint8Array;
use deno_core::{OpState, op2, v8};
use deno_error::JsErrorBox;
use md5::Digest as _;

use crate::buffers::External;
use crate::invocation::Held;
use crate::limits::Limit;

/// JavaScript keeps something by this invocation's number, and wants to be told when it is over; whether it goes on.
#[op2(fast)]
pub(crate) fn op_hold(state: &mut OpState, #[smi] id: u32) -> bool {
    let invocation = state.borrow_mut::<Held>().invocations.get_mut(id);
    invocation.map(|invocation| invocation.is_kept = true).is_some()
}

/// A timer or an operation of an invocation begins, if it may have one more; whether it goes on.
#[op2(fast)]
pub(crate) fn op_begin(state: &mut OpState, #[smi] id: u32) -> Result<bool, JsErrorBox> {
    let held = state.borrow_mut::<Held>();
    held.begin(id)?;
    Ok(held.invocations.get_mut(id).is_some())
}

/// It has ended.
#[op2(fast)]
pub(crate) fn op_done(state: &mut OpState, #[smi] id: u32) {
    state.borrow_mut::<Held>().done(id);
}

/// Whether an isolate may have so many more bytes of WebAssembly memory. It may collect garbage, which no fast call may.
#[op2(nofast)]
pub(crate) fn op_wasm_room(
    scope: &mut v8::PinScope,
    state: &mut OpState,
    #[smi] id: u32,
    #[number] bytes: u64,
) -> bool {
    let Some(external) = scope.get_slot::<Arc<External>>().map(Arc::clone) else { return true };
    let room = external.has_room(scope, usize::try_from(bytes).unwrap_or(usize::MAX));
    if !room && let Some(invocation) = state.borrow_mut::<Held>().invocations.get_mut(id) {
        invocation.broke.get_or_insert(Limit::Wasm);
    }
    room
}

/// What comes is on account of this invocation; whether it goes on.
#[op2(fast)]
pub(crate) fn op_touch(state: &mut OpState, #[smi] id: u32) -> bool {
    let held = state.borrow_mut::<Held>();
    held.touch(id);
    held.invocations.get_mut(id).is_some()
}

/// MD5, which WebCrypto lacks and Workers has: for checksums of old protocols, not for security.
#[op2]
pub(crate) fn op_md5(#[anybuffer] data: &[u8]) -> Uint8Array {
    md5::Md5::digest(data).to_vec().into()
}

#[op2]
pub(crate) fn op_timing_safe_equal(#[anybuffer] a: &[u8], #[anybuffer] b: &[u8]) -> Result<bool, JsErrorBox> {
    if a.len() != b.len() {
        return Err(JsErrorBox::type_error("timingSafeEqual(): both need the same number of bytes"));
    }
    let differing = a.iter().zip(b).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    Ok(differing == 0)
}
