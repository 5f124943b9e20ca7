// Request, Response and fetch() (https://fetch.spec.whatwg.org/#request-class and following).

(function () {
const { core } = __bootstrap;
const { op_request_head, op_request_headers, op_request_cf, op_fetch, op_fetch_cancel, op_body_close } = core.ops;
const { URL } = core.loadExtScript("ext:deno_web/00_url.js");
const { AbortSignal, AbortController } = core.loadExtScript("ext:deno_web/03_abort_signal.js");
const { Headers, lazyHeaders, flatHeaders, setIfAbsent, freezeHeaders } = core.loadExtScript("ext:skerry/10_headers.js");
const { BodyState, extractBody, mixinBody, streamToNative, TEXT, BYTES, NATIVE } = core.loadExtScript(
  "ext:skerry/20_body.js",
);

const INCOMING = Symbol("incoming");
const NULL_BODY = new Set([101, 204, 205, 304]);
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const MAX_REDIRECTS = 20;
const NORMAL_METHODS = new Set(["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"]);
const FORBIDDEN_METHODS = new Set(["CONNECT", "TRACE", "TRACK"]);

function checkMethod(method) {
  method = `${method}`;
  const upper = method.toUpperCase();
  if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(method) || FORBIDDEN_METHODS.has(upper)) {
    throw new TypeError(`${JSON.stringify(method)} is not a method that a request can have`);
  }
  return NORMAL_METHODS.has(upper) ? upper : method;
}

class Request {
  // An incoming request knows only its invocation (`#id`); the rest is read from Rust when looked at.
  #id = 0;
  #method;
  #url;
  #headers;
  #body = null;
  #redirect;
  #signal;
  #cf;

  constructor(input, init = undefined) {
    if (input === INCOMING) {
      this.#id = init;
      this.#redirect = "manual";
      return;
    }
    if (init !== undefined && init !== null && typeof init !== "object") throw new TypeError("Request: init must be an object");
    init ??= {};
    const base = typeof input === "object" && input !== null && #id in input ? input : null;
    if (base === null) {
      this.#url = parseUrl(input);
      this.#method = "GET";
      this.#redirect = "follow";
    } else {
      this.#url = base.url;
      this.#method = base.method;
      this.#redirect = base.redirect;
      this.#cf = base.cf;
    }
    if (init.method !== undefined) this.#method = checkMethod(init.method);
    if (init.redirect !== undefined) {
      if (!["follow", "manual", "error"].includes(init.redirect)) throw new TypeError(`Request: redirect ${init.redirect}`);
      this.#redirect = init.redirect;
    }
    if (init.cf !== undefined) this.#cf = init.cf;
    const signal = init.signal === undefined ? base?.signal : init.signal;
    if (signal !== undefined && signal !== null && !(signal instanceof AbortSignal)) {
      throw new TypeError("Request: signal must be an AbortSignal");
    }
    this.#signal = signal ?? undefined;
    this.#headers = new Headers(init.headers ?? base?.headers);
    this.#takeBody(init, base);
  }

  #takeBody(init, base) {
    const bodyless = this.#method === "GET" || this.#method === "HEAD";
    if (init.body !== undefined && init.body !== null) {
      if (bodyless) throw new TypeError(`Request: a ${this.#method} request has no body`);
      const [body, type] = extractBody(init.body);
      this.#body = body;
      if (type !== null) setIfAbsent(this.#headers, "content-type", type);
    } else if (base !== null) {
      const inherited = bodyOf(base);
      if (inherited !== null && !bodyless) {
        if (inherited.unusable) throw new TypeError("Request: the body of the request given was used already");
        this.#body = new BodyState(inherited.kind, inherited.source);
        inherited.used = true;
      }
    }
  }

  #load() {
    if (this.#url !== undefined) return;
    const [method, url, bodyId] = op_request_head(this.#id);
    this.#method = method;
    this.#url = url;
    if (bodyId !== 0 && this.#body === null) this.#body = new BodyState(NATIVE, bodyId);
  }

  get method() {
    this.#load();
    return this.#method;
  }

  get url() {
    this.#load();
    return this.#url;
  }

  get headers() {
    if (this.#headers === undefined) {
      const id = this.#id;
      this.#headers = lazyHeaders(() => op_request_headers(id), true);
    }
    return this.#headers;
  }

  get redirect() {
    return this.#redirect;
  }

  get signal() {
    return (this.#signal ??= new AbortController().signal);
  }

  get cf() {
    if (this.#cf === undefined && this.#id !== 0) this.#cf = JSON.parse(op_request_cf(this.#id));
    return this.#cf;
  }

  clone() {
    this.#load();
    const copy = new Request(this.#url, { method: this.#method, redirect: this.#redirect, headers: this.headers, cf: this.cf });
    if (this.#body !== null) copy.#body = this.#body.clone();
    if (this.#signal !== undefined) copy.#signal = this.#signal;
    return copy;
  }

  get [Symbol.toStringTag]() {
    return "Request";
  }

  static _body(request) {
    request.#load();
    return request.#body;
  }

  // Headers of an untouched incoming request go on as they came, without becoming a list.
  static _flat(request) {
    return request.#headers === undefined ? op_request_headers(request.#id) : flatHeaders(request.#headers);
  }

  static _signal(request) {
    return request.#signal;
  }
}
const { _body: bodyOf, _flat: flatOf, _signal: signalOf } = Request;
for (const hidden of ["_body", "_flat", "_signal"]) delete Request[hidden];
mixinBody(Request.prototype, bodyOf, (request) => request.headers.get("content-type"));

function parseUrl(input) {
  try {
    const url = new URL(`${input}`);
    if (url.username || url.password) throw new TypeError("has credentials");
    url.hash = "";
    return url.href;
  } catch {
    throw new TypeError(`${JSON.stringify(`${input}`)} is not an absolute URL that can be fetched`);
  }
}

class Response {
  #status = 200;
  #statusText = "";
  #headers;
  #body = null;
  #url = "";
  #redirected = false;
  #type = "default";

  constructor(body = null, init = undefined) {
    if (body === INCOMING) {
      const [status, flat, bodyId, url, redirected] = init;
      this.#status = status;
      this.#headers = lazyHeaders(() => flat, true);
      if (bodyId !== 0) this.#body = new BodyState(NATIVE, bodyId);
      this.#url = url;
      this.#redirected = redirected;
      return;
    }
    init ??= {};
    if (init.status !== undefined) {
      const status = Number(init.status);
      if (!Number.isInteger(status) || (status !== 101 && (status < 200 || status > 599))) {
        throw new RangeError(`Response: status ${init.status} is outside 200 to 599`);
      }
      this.#status = status;
    }
    if (init.statusText !== undefined) this.#statusText = `${init.statusText}`;
    this.#headers = new Headers(init.headers);
    const [state, type] = extractBody(body);
    if (state !== null && NULL_BODY.has(this.#status)) {
      throw new TypeError(`Response: status ${this.#status} has no body`);
    }
    this.#body = state;
    if (type !== null) setIfAbsent(this.#headers, "content-type", type);
  }

  static json(data, init = undefined) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("Response.json(): the value has no JSON form");
    const response = new Response(text, { ...init, headers: undefined });
    response.#headers = new Headers(init?.headers);
    setIfAbsent(response.#headers, "content-type", "application/json");
    return response;
  }

  static redirect(url, status = 302) {
    if (!REDIRECTS.has(status)) throw new RangeError(`Response.redirect(): ${status} is not a redirect status`);
    const response = new Response(null, { status, headers: { location: new URL(`${url}`).href } });
    freezeHeaders(response.#headers);
    return response;
  }

  static error() {
    const response = new Response();
    response.#type = "error";
    response.#status = 0;
    freezeHeaders(response.#headers);
    return response;
  }

  get status() {
    return this.#status;
  }

  get ok() {
    return this.#status >= 200 && this.#status <= 299;
  }

  get statusText() {
    return this.#statusText;
  }

  get headers() {
    return this.#headers;
  }

  get url() {
    return this.#url;
  }

  get redirected() {
    return this.#redirected;
  }

  get type() {
    return this.#type;
  }

  clone() {
    const copy = new Response(null, { status: this.#status || 200, statusText: this.#statusText, headers: this.#headers });
    copy.#status = this.#status;
    copy.#type = this.#type;
    copy.#url = this.#url;
    copy.#redirected = this.#redirected;
    if (this.#body !== null) copy.#body = this.#body.clone();
    return copy;
  }

  get [Symbol.toStringTag]() {
    return "Response";
  }

  static _is(value) {
    return typeof value === "object" && value !== null && #status in value;
  }

  static _body(response) {
    return response.#body;
  }
}
const { _is: isResponse, _body: responseBody } = Response;
for (const hidden of ["_is", "_body"]) delete Response[hidden];
mixinBody(Response.prototype, responseBody, (response) => response.headers.get("content-type"));

// A body on its way to Rust for an invocation: [text or bytes or null, id of a native body or 0].
function outgoing(body, invocation) {
  if (body === null) return [null, 0];
  if (body.unusable) throw new TypeError("The body has been used already");
  if (body.stream === null || body.kind !== NATIVE) {
    if (body.stream === null) {
      body.used = true;
      if (body.kind === TEXT) return [core.encode(body.source), 0];
      if (body.kind === BYTES) return [body.source, 0];
      if (body.kind === NATIVE) return [null, body.source];
    }
  } else {
    // Somebody looked at `.body` and left it alone.
    body.take();
    return [null, body.source];
  }
  return [null, streamToNative(body.asStream(), invocation)];
}

let nextFetch = 1;

async function fetch(input, init = undefined) {
  const invocation = core.getAsyncContext();
  if (typeof invocation !== "number") {
    throw new TypeError("fetch() works only while a request is handled: move it from the top level into the handler");
  }
  const request = new Request(input, init);
  const signal = signalOf(request);
  signal?.throwIfAborted();
  let { method, url } = request;
  let headers = flatOf(request);
  let [bytes, bodyId] = outgoing(bodyOf(request), invocation);
  const cf = init?.cf === undefined ? "" : JSON.stringify(init.cf);
  for (let hops = 0;; hops++) {
    const head = await send(invocation, method, url, headers, bytes, bodyId, cf, signal);
    const location = REDIRECTS.has(head[0]) ? headerOf(head[1], "location") : null;
    if (location === null || request.redirect === "manual") {
      return new Response(INCOMING, [head[0], head[1], head[2], url, hops > 0]);
    }
    if (head[2] !== 0) op_body_close(head[2]);
    if (request.redirect === "error") throw new TypeError(`fetch(): ${url} redirects, and redirect is "error"`);
    if (hops === MAX_REDIRECTS) throw new TypeError(`fetch(): more than ${MAX_REDIRECTS} redirects`);
    if (bodyId !== 0 && head[0] !== 303) throw new TypeError("fetch(): a streamed body cannot follow a redirect");
    const next = new URL(location, url);
    if (head[0] === 303 ? method !== "HEAD" : head[0] <= 302 && method === "POST") {
      method = "GET";
      bytes = null;
      bodyId = 0;
      headers = withoutHeaders(headers, (name) => name.startsWith("content-"));
    }
    // Credentials stay with the origin they were meant for (fetch section 4.4, step 13).
    if (next.origin !== new URL(url).origin) {
      headers = withoutHeaders(headers, (name) => name === "authorization" || name === "cookie" || name === "proxy-authorization");
    }
    next.hash = "";
    url = next.href;
  }
}

async function send(invocation, method, url, headers, bytes, bodyId, cf, signal) {
  if (signal === undefined) return await op_fetch(invocation, 0, method, url, headers, bytes, bodyId, cf);
  const token = nextFetch++;
  const cancel = () => op_fetch_cancel(token);
  signal.addEventListener("abort", cancel, { once: true });
  try {
    return await op_fetch(invocation, token, method, url, headers, bytes, bodyId, cf);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}

function headerOf(flat, wanted) {
  const list = flat.split("\n");
  for (let i = 0; i < list.length; i += 2) if (list[i] === wanted) return list[i + 1];
  return null;
}

function withoutHeaders(flat, drop) {
  const list = flat.split("\n");
  const kept = [];
  for (let i = 0; i + 1 < list.length; i += 2) if (!drop(list[i])) kept.push(list[i], list[i + 1]);
  return kept.join("\n");
}

return { Request, Response, fetch, INCOMING, isResponse, responseBody, outgoing };
})();
