//! Small ops behind single web APIs.

use deno_core::convert::Uint8Array;
use deno_core::{OpState, op2};
use deno_error::JsErrorBox;
use md5::Digest as _;

use crate::invocation::Held;

/// JavaScript keeps something by this invocation's number, and wants to be told when it is over; whether it goes on.
#[op2(fast)]
pub(crate) fn op_hold(state: &mut OpState, #[smi] id: u32) -> bool {
    let invocation = state.borrow_mut::<Held>().invocations.get_mut(id);
    invocation.map(|invocation| invocation.is_kept = true).is_some()
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
