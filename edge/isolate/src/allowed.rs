//! Which ops there are. Every op that a function could come by is a system call into the process, so what the runtime's
//! JavaScript does not call is not there: `deno_core`'s own ops refuse, those of the other crates are left out.
//!
//! `tests/ops.txt` lists what remains. The snapshot and the isolates made from it number the ops alike, so both start
//! from the same lists; an op that only the making of the snapshot needs refuses from then on.

use std::borrow::Cow;
use std::cell::OnceCell;

use deno_core::_ops::OpMethodDecl;
use deno_core::{Extension, OpDecl, op2};
use deno_error::JsErrorBox;

/// What the ops are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Making the snapshot: the runtime's own JavaScript is loaded.
    Snapshot,
    /// Running functions.
    Run,
}

/// Of `deno_core`. Sorted, as the other lists are.
const CORE: &[&str] = &[
    "op_decode",
    "op_destructure_error",
    "op_drain_pending_rejections",
    "op_encode",
    "op_is_any_array_buffer",
    "op_is_array_buffer",
    "op_is_data_view",
    "op_is_proxy",
    "op_is_shared_array_buffer",
    "op_is_typed_array",
    "op_run_microtasks",
    "op_structured_clone",
    "op_timer_now",
    "op_timer_schedule",
    "op_timer_track",
    "op_timer_untrack",
];

/// Of `deno_core`, while the snapshot is made.
const CORE_AT_SNAPSHOT: &[&str] = &[
    "op_get_ext_import_meta_proto",
    "op_get_extras_binding_object",
    "op_load_ext_script",
    "op_set_captured_bootstrap",
];

/// Of the crates that bring the web APIs.
const WEB: &[&str] = &[
    "op_base64_atob",
    "op_base64_btoa",
    "op_compression_finish",
    "op_compression_new",
    "op_compression_write",
    "op_console_css_to_ansi",
    "op_console_format_value",
    "op_console_get_string_width",
    "op_console_inspect",
    "op_console_inspect_args",
    "op_console_parse_css",
    "op_console_parse_css_color",
    "op_console_quote_string",
    "op_console_strip_vt",
    "op_crypto_is_seeded",
    "op_crypto_random_uuid_batch",
    "op_encoding_decode",
    "op_encoding_decode_single",
    "op_encoding_decode_utf8",
    "op_encoding_decode_utf8_ascii_only",
    "op_encoding_encode_into",
    "op_encoding_encode_into_fallback",
    "op_encoding_new_decoder",
    "op_encoding_normalize_label",
    "op_url_get_serialization",
    "op_url_parse",
    "op_url_parse_search_params",
    "op_url_parse_with_base",
    "op_url_reparse",
    "op_url_stringify_search_params",
    "op_urlpattern_parse",
    "op_urlpattern_process_match_input",
];

/// Methods of native classes: class and method. A class without any is not there.
const METHODS: &[(&str, &str)] = &[
    ("Crypto", "create"),
    ("Crypto", "getRandomValues"),
    ("Crypto", "randomUUID"),
    ("Crypto", "subtle"),
    ("CryptoKey", "algorithm"),
    ("CryptoKey", "extractable"),
    ("CryptoKey", "type"),
    ("CryptoKey", "usages"),
    ("SubtleCrypto", "create"),
    ("SubtleCrypto", "decrypt"),
    ("SubtleCrypto", "deriveBits"),
    ("SubtleCrypto", "deriveKey"),
    ("SubtleCrypto", "digest"),
    ("SubtleCrypto", "encrypt"),
    ("SubtleCrypto", "exportKey"),
    ("SubtleCrypto", "generateKey"),
    ("SubtleCrypto", "importKey"),
    ("SubtleCrypto", "sign"),
    ("SubtleCrypto", "unwrapKey"),
    ("SubtleCrypto", "verify"),
    ("SubtleCrypto", "wrapKey"),
];

fn holds<T: Ord>(sorted: &[T], wanted: &T) -> bool {
    sorted.binary_search(wanted).is_ok()
}

/// Stands in for the ops of `deno_core` that nobody needs: it throws. (`OpDecl::disable` would leave them a fast form
/// that does nothing and says nothing.)
#[op2(nofast)]
fn op_refused() -> Result<(), JsErrorBox> {
    Err(JsErrorBox::type_error(REFUSED))
}

pub(crate) const REFUSED: &str = "this op is not available";

/// Leaves out of a web crate's extension what is not allowed.
pub(crate) fn narrow(mut extension: Extension) -> Extension {
    thread_local! {
        /// Tables of methods live for ever, so they are made once on each thread and not for each isolate.
        static CLASSES: OnceCell<&'static [OpMethodDecl]> = const { OnceCell::new() };
    }
    extension.ops = extension.ops.iter().filter(|op| holds(WEB, &op.name)).copied().collect();
    let known = |class: &OpMethodDecl| METHODS.iter().any(|(name, _)| *name == class.name.0);
    extension.objects = Cow::Borrowed(if extension.objects.iter().any(known) {
        let narrowed = || extension.objects.iter().filter(|class| known(class)).map(narrowed).collect::<Vec<_>>();
        CLASSES.with(|classes| *classes.get_or_init(|| narrowed().leak()))
    } else {
        &[]
    });
    extension
}

/// A class with the methods that are allowed.
fn narrowed(class: &OpMethodDecl) -> OpMethodDecl {
    let allowed = |methods: &'static [OpDecl]| -> &'static [OpDecl] {
        let kept = methods.iter().filter(|method| holds(METHODS, &(class.name.0, method.name)));
        kept.copied().collect::<Vec<_>>().leak()
    };
    OpMethodDecl { methods: allowed(class.methods), static_methods: allowed(class.static_methods), ..*class }
}

/// What becomes of an op when it is registered. All of `own`, the platform's, are allowed.
pub(crate) fn middleware(stage: Stage, own: Vec<&'static str>) -> impl Fn(OpDecl) -> OpDecl {
    move |op| {
        let allowed = holds(CORE, &op.name)
            || holds(WEB, &op.name)
            || own.contains(&op.name)
            || (stage == Stage::Snapshot && holds(CORE_AT_SNAPSHOT, &op.name));
        if allowed { op } else { op.with_implementation_from(&op_refused()) }
    }
}

/// Every op that the lists name, for the test that there is one.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CORE.iter().chain(WEB).copied()
}
