//! The functions that are measured: the same source for every platform that runs JavaScript, but for what it fetches and
//! how it verifies.

use std::net::SocketAddr;

/// What the smallest function answers.
pub(crate) const BODY: &str = "Hello, world!\n";

/// The fields of a request to [`with_fields`].
pub(crate) const FIELDS: [(&str, &str); 2] = [("X-Name", "bench"), ("User-Agent", "load generator")];

/// The smallest function.
pub(crate) fn hello() -> String {
    format!("export default {{\n  fetch() {{\n    return new Response({BODY:?});\n  }},\n}};\n")
}

/// Reads method, URL and two fields, and sets two fields.
pub(crate) fn with_fields() -> String {
    r#"export default {
  fetch(request) {
    const { method, url, headers } = request;
    const name = headers.get("x-name");
    const agent = headers.get("user-agent");
    return new Response(`${method} ${url} ${name} ${agent}\n`, {
      headers: { "content-type": "text/plain", "x-answers": name },
    });
  },
};
"#
    .to_owned()
}

/// What [`with_fields`] answers to [`FIELDS`].
pub(crate) fn with_fields_answer(address: SocketAddr, path: &str) -> String {
    let [(_, name), (_, agent)] = FIELDS;
    format!("GET http://{address}{path} {name} {agent}\n")
}

/// What one of many functions is called.
pub(crate) fn name(number: u32) -> String {
    format!("fn-{number}")
}

/// A small function that is different for each name.
pub(crate) fn numbered(name: &str) -> String {
    format!("export default {{\n  fetch() {{\n    return new Response(\"This is {name}.\\n\");\n  }},\n}};\n")
}

/// What the JavaScript of a platform fetches, to get what the origin has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// The request's own URL: the platform stands before the origin.
    Own,
    /// A path of another server.
    Other(SocketAddr, &'a str),
}

impl Origin<'_> {
    fn expression(self) -> String {
        match self {
            Self::Own => "request".to_owned(),
            Self::Other(address, path) => format!("\"http://{address}{path}\""),
        }
    }
}

/// Passes on what the origin answers, as it is.
pub(crate) fn pass_through(origin: Origin<'_>) -> String {
    let origin = origin.expression();
    format!("export default {{\n  fetch(request) {{\n    return fetch({origin});\n  }},\n}};\n")
}

/// Reads a field, passes on what the origin answers, and sets a field.
pub(crate) fn pass_through_with_field(origin: Origin<'_>) -> String {
    let origin = origin.expression();
    format!(
        r#"export default {{
  async fetch(request) {{
    const name = request.headers.get("x-name");
    const answer = await fetch({origin});
    const response = new Response(answer.body, answer);
    response.headers.set("x-answers", name);
    return response;
  }},
}};
"#
    )
}

/// Passes on what the origin answers, each piece by way of JavaScript.
pub(crate) fn stream_through(origin: Origin<'_>) -> String {
    let origin = origin.expression();
    format!(
        r#"export default {{
  async fetch(request) {{
    const answer = await fetch({origin});
    return new Response(answer.body.pipeThrough({IDENTITY}), answer);
  }},
}};
"#
    )
}

/// Passes the body of the request on to the origin.
pub(crate) fn pass_up(origin: Origin<'_>) -> String {
    match origin {
        Origin::Own => pass_through(origin),
        Origin::Other(..) => post(origin, "request.body"),
    }
}

/// Passes the body of the request on to the origin, each piece by way of JavaScript.
pub(crate) fn stream_up_through(origin: Origin<'_>) -> String {
    post(origin, &format!("request.body.pipeThrough({IDENTITY})"))
}

fn post(origin: Origin<'_>, body: &str) -> String {
    let url = match origin {
        Origin::Own => "request.url".to_owned(),
        Origin::Other(..) => origin.expression(),
    };
    format!(
        r#"export default {{
  fetch(request) {{
    const body = {body};
    return fetch({url}, {{ method: "POST", body, duplex: "half" }});
  }},
}};
"#
    )
}

/// What a function does that has to look at each piece.
const IDENTITY: &str = "new TransformStream({
      transform(piece, controller) {
        controller.enqueue(piece);
      },
    })";
