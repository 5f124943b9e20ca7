//! The functions that are measured: the same source for every platform that runs JavaScript.

/// What the smallest function answers.
pub(crate) const BODY: &str = "Hello, world!\n";

/// The smallest function.
pub(crate) fn hello() -> String {
    format!("export default {{\n  fetch() {{\n    return new Response({BODY:?});\n  }},\n}};\n")
}

/// What one of many functions is called.
pub(crate) fn name(number: u32) -> String {
    format!("fn-{number}")
}

/// A small function that is different for each name.
pub(crate) fn numbered(name: &str) -> String {
    format!("export default {{\n  fetch() {{\n    return new Response(\"This is {name}.\\n\");\n  }},\n}};\n")
}

/// Passes on what the origin answers.
pub(crate) fn pass_through() -> String {
    "export default {\n  fetch(request) {\n    return fetch(request);\n  },\n};\n".to_owned()
}
