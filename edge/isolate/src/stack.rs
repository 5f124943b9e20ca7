//! Stack traces as a function sees them: its own frames, without those of the platform between them.

use deno_core::error::prepare_stack_trace_callback;
use deno_core::v8;

/// What V8 calls when the stack of an error is looked at. Leaves the platform's frames out before anybody has them, be
/// it the text of `error.stack` or the function's own `Error.prepareStackTrace`.
pub(crate) fn prepare<'s, 'i>(
    scope: &mut v8::PinScope<'s, 'i>,
    error: v8::Local<'s, v8::Value>,
    frames: v8::Local<'s, v8::Array>,
) -> v8::Local<'s, v8::Value> {
    let mut own = Vec::with_capacity(frames.length() as usize);
    for index in 0..frames.length() {
        let Some(frame) = frames.get_index(scope, index) else { continue };
        if !is_platforms(scope, frame).unwrap_or(false) {
            own.push(frame);
        }
    }
    let frames = if own.len() == frames.length() as usize { frames } else { v8::Array::new_with_elements(scope, &own) };
    prepare_stack_trace_callback(scope, error, frames)
}

/// Whether a frame is of code that came with the snapshot. The function never had the objects that are asked here.
fn is_platforms<'s>(scope: &mut v8::PinScope<'s, '_>, frame: v8::Local<'s, v8::Value>) -> Option<bool> {
    let frame = v8::Local::<v8::Object>::try_from(frame).ok()?;
    let name = v8::String::new(scope, "getFileName")?;
    let ask = v8::Local::<v8::Function>::try_from(frame.get(scope, name.into())?).ok()?;
    let file = v8::Local::<v8::String>::try_from(ask.call(scope, frame.into(), &[])?).ok()?;
    let mut start = [0; 4];
    file.write_one_byte_v2(scope, 0, &mut start, v8::WriteFlags::empty());
    Some(matches!(&start, b"ext:" | b"sker"))
}
