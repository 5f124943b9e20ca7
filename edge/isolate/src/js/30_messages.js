// Request, Response and fetch() (https://fetch.spec.whatwg.org/#request-class and following).

(function () {
"use strict";
const { core } = __bootstrap;
const {
  op_request_method, op_request_url, op_request_headers, op_request_header, op_request_cf, op_hold, op_fetch, op_fetch_cancel, op_body_close,
} = core.ops;
const { URL } = core.loadExtScript("ext:deno_web/00_url.js");
const { AbortSignal, AbortController } = core.loadExtScript("ext:deno_web/03_abort_signal.js");
const { DOMException } = core.loadExtScript("ext:deno_web/01_dom_exception.js");
const {
  Headers, isHeaders, lazyHeaders, copyHeaders, ownerOf, flatHeaders, codingOf, codingOfFlat, setIfAbsent, freezeHeaders,
} = core.loadExtScript("ext:skerry/10_headers.js");
const { BodyState, NativeBody, extractBody, mixinBody, outgoing, NATIVE } = core.loadExtScript("ext:skerry/20_body.js");
const { createFilteredInspectProxy } = core.loadExtScript("ext:deno_web/01_console.js");

const INCOMING = Symbol("incoming");
const CUSTOM_INSPECT = Symbol.for("Deno.privateCustomInspect");
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const MAX_REDIRECTS = 20;
const NORMAL_METHODS = new Set(["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"]);
const FORBIDDEN_METHODS = new Set(["CONNECT", "TRACE", "TRACK"]);
const CACHE_MODES = new Set(["default", "no-store", "reload", "no-cache", "force-cache", "only-if-cached"]);
const METHOD = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const REASON = /^[\t\x20-\x7e\x80-\xff]*$/;

// HTTP/2 has no reason phrases, so a fetched response gets the registered one (RFC 9110 section 15).
const REASONS = {
  __proto__: null,
  100: "Continue", 101: "Switching Protocols", 103: "Early Hints", 200: "OK", 201: "Created", 202: "Accepted",
  203: "Non-Authoritative Information", 204: "No Content", 205: "Reset Content", 206: "Partial Content",
  207: "Multi-Status", 208: "Already Reported", 226: "IM Used", 300: "Multiple Choices", 301: "Moved Permanently",
  302: "Found", 303: "See Other", 304: "Not Modified", 305: "Use Proxy", 307: "Temporary Redirect",
  308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden",
  404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required",
  408: "Request Timeout", 409: "Conflict", 410: "Gone", 411: "Length Required", 412: "Precondition Failed",
  413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type", 416: "Range Not Satisfiable",
  417: "Expectation Failed", 421: "Misdirected Request", 422: "Unprocessable Content", 423: "Locked",
  424: "Failed Dependency", 425: "Too Early", 426: "Upgrade Required", 428: "Precondition Required",
  429: "Too Many Requests", 431: "Request Header Fields Too Large", 451: "Unavailable For Legal Reasons",
  500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
  504: "Gateway Timeout", 505: "HTTP Version Not Supported", 506: "Variant Also Negotiates",
  507: "Insufficient Storage", 508: "Loop Detected", 511: "Network Authentication Required",
};

const isNullBody = (status) => status === 204 || status === 304 || status === 101 || status === 205;

function checkMethod(method) {
  if (method === "GET" || method === "POST") return method;
  method = `${method}`;
  const upper = method.toUpperCase();
  if (!METHOD.test(method) || FORBIDDEN_METHODS.has(upper)) {
    throw new TypeError(`${JSON.stringify(method)} is not a method that a request can have`);
  }
  return NORMAL_METHODS.has(upper) ? upper : method;
}

const CACHE_OPTIONS = ["cacheTtl", "cacheTtlByStatus", "cacheEverything", "cacheKey", "cacheTags"];

// What Rust reads of `cf`, or undefined: a request made from one that came in has where its client is in there, too.
function cacheOptions(cf) {
  if (typeof cf !== "object" || cf === null) return cf ?? undefined;
  let options;
  for (let i = 0; i < CACHE_OPTIONS.length; i++) {
    const value = cf[CACHE_OPTIONS[i]];
    if (value !== undefined) (options ??= { __proto__: null })[CACHE_OPTIONS[i]] = value;
  }
  return options;
}

// Controllers of the incoming requests whose `signal` somebody looked at, by invocation. Entries of requests that are
// over go when there are many.
const controllers = new Map();

function incomingSignal(id) {
  const controller = new AbortController();
  if (op_hold(id)) controllers.set(id, controller);
  return controller.signal;
}

// Called by Rust when the client of an invocation has gone before its response was finished.
function abort(id) {
  const controller = controllers.get(id);
  if (controller === undefined) return;
  controllers.delete(id);
  controller.abort(new DOMException("The client has disconnected", "AbortError"));
}

// Called by Rust when an invocation is over.
function forget(id) {
  controllers.delete(id);
}

// The methods that Rust names by number, from 1 on (METHODS in extension.rs).
const METHODS = [undefined, "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

class Request {
  // An incoming request knows only its invocation (`#id`), most methods and its body; the rest is read from Rust when
  // looked at.
  #id = 0;
  #method;
  #url;
  #headers;
  #body = null;
  #redirect;
  #signal;
  #cf;
  #cache = "default";
  // The Request this one was made from, for what is only looked up when needed.
  #base = null;

  constructor(input, init = undefined) {
    if (input === INCOMING) {
      this.#id = init;
      this.#redirect = "manual";
      return;
    }
    if (init !== undefined && init !== null && typeof init !== "object" && typeof init !== "function") {
      throw new TypeError("Request: init must be an object");
    }
    const base = isRequest(input) ? input : null;
    if (base === null) {
      this.#url = parseUrl(input);
      this.#method = "GET";
      this.#redirect = "follow";
    } else {
      this.#url = base.url;
      this.#method = base.method;
      this.#redirect = base.#redirect;
      this.#cache = base.#cache;
      this.#base = base;
    }
    if (init === undefined || init === null) {
      this.#headers = base === null ? new Headers() : copyHeaders(base.headers);
      if (base !== null) this.#inherit(base);
      return;
    }
    this.#apply(init, base);
  }

  #apply(init, base) {
    const { method, redirect, cf, cache, signal, headers, body } = init;
    if (method !== undefined) this.#method = checkMethod(method);
    if (redirect !== undefined) {
      if (redirect !== "follow" && redirect !== "manual" && redirect !== "error") {
        throw new TypeError(`Request: redirect is "follow", "manual" or "error", not ${JSON.stringify(`${redirect}`)}`);
      }
      this.#redirect = redirect;
    }
    if (cf !== undefined) this.#cf = cf;
    if (cache !== undefined) {
      if (!CACHE_MODES.has(cache)) {
        throw new TypeError(`Request: cache is one of ${[...CACHE_MODES].join(", ")}, not ${JSON.stringify(`${cache}`)}`);
      }
      this.#cache = cache;
    }
    if (signal === null) {
      this.#signal = null;
    } else if (signal !== undefined) {
      if (!(signal instanceof AbortSignal)) throw new TypeError("Request: signal must be an AbortSignal");
      this.#signal = signal;
    }
    if (headers !== undefined) this.#headers = isHeaders(headers) ? copyHeaders(headers) : new Headers(headers);
    else this.#headers = base === null ? new Headers() : copyHeaders(base.headers);
    if (body === undefined || body === null) {
      if (base !== null && body === undefined) this.#inherit(base);
      return;
    }
    if (this.#method === "GET" || this.#method === "HEAD") {
      throw new TypeError(`Request: a ${this.#method} request has no body`);
    }
    this.#body = extractBody(body);
    if (this.#body.type !== null) setIfAbsent(this.#headers, "content-type", this.#body.type);
  }

  #inherit(base) {
    const body = bodyOf(base);
    if (body === null) return;
    if (body.unusable) throw new TypeError("Request: the body of the request given was used already");
    if (this.#method !== "GET" && this.#method !== "HEAD") this.#body = body.transferred();
  }

  get method() {
    return this.#method ??= op_request_method(this.#id);
  }

  get url() {
    return this.#url ??= op_request_url(this.#id);
  }

  get headers() {
    if (this.#headers === undefined) {
      const id = this.#id;
      const one = (name) => op_request_header(id, name);
      this.#headers = lazyHeaders(() => op_request_headers(id), true, undefined, one, id);
    }
    return this.#headers;
  }

  get redirect() {
    return this.#redirect;
  }

  get signal() {
    // Null was given to cut a request off from the signal of the one it was made from.
    if (this.#signal === undefined || this.#signal === null) {
      if (this.#id !== 0) this.#signal = incomingSignal(this.#id);
      else if (this.#signal === undefined && this.#base !== null) this.#signal = this.#base.signal;
      else this.#signal = new AbortController().signal;
    }
    return this.#signal;
  }

  get cf() {
    if (this.#cf === undefined) {
      if (this.#id !== 0) this.#cf = JSON.parse(op_request_cf(this.#id));
      else if (this.#base !== null) this.#cf = this.#base.cf;
    }
    return this.#cf;
  }

  get cache() {
    return this.#cache;
  }

  // Constants of a platform without pages and frames.
  get credentials() {
    return "same-origin";
  }

  get integrity() {
    return "";
  }

  get keepalive() {
    return false;
  }

  clone() {
    const body = bodyOf(this);
    if (body !== null && body.unusable) throw new TypeError("Request: the body was used already, so it cannot be cloned");
    const copy = new Request(this.url);
    copy.#url = this.#url;
    copy.#method = this.#method ??= op_request_method(this.#id);
    copy.#redirect = this.#redirect;
    copy.#cache = this.#cache;
    copy.#headers = copyHeaders(this.headers);
    copy.#base = this;
    if (body !== null) copy.#body = body.clone();
    return copy;
  }

  get [Symbol.toStringTag]() {
    return "Request";
  }

  [CUSTOM_INSPECT](inspect, options) {
    return inspect(createFilteredInspectProxy({
      object: this,
      evaluate: isRequest(this),
      keys: ["method", "url", "headers", "redirect", "bodyUsed"],
    }), options);
  }

  static _is(value) {
    return typeof value === "object" && value !== null && #id in value;
  }

  // A request that came in: `method` is its number in METHODS or 0, `body` the id of its body or 0.
  static _incoming(id, method, body) {
    const request = new Request(INCOMING, id);
    request.#method = METHODS[method];
    if (body !== 0) request.#body = new BodyState(NATIVE, new NativeBody(body, ""));
    return request;
  }

  static _body(request) {
    return request.#body;
  }

  // Headers of an untouched incoming request go on as they came, without becoming a list.
  static _flat(request) {
    return request.#headers === undefined ? op_request_headers(request.#id) : flatHeaders(request.#headers);
  }

  // The incoming request whose headers these are, unchanged, or 0.
  static _of(request) {
    return request.#headers === undefined ? request.#id : ownerOf(request.#headers);
  }

  // The signal that ends a fetch of this request. Nobody can wait for one that nobody looked at.
  static _signal(request) {
    let at = request;
    while (at.#signal === undefined && at.#base !== null) at = at.#base;
    return at.#signal ?? undefined;
  }

  // What `cf` and `cache` were given when it was made, as Rust takes them; "" for neither.
  static _caching(request) {
    let at = request;
    while (at.#cf === undefined && at.#base !== null) at = at.#base;
    const cf = at.#id === 0 ? cacheOptions(at.#cf) : undefined;
    const cache = request.#cache;
    return cf === undefined && cache === "default" ? "" : JSON.stringify({ cf, cache });
  }
}
const { _incoming: incoming, _is: isRequest, _body: bodyOf, _flat: flatOf, _of: headersOf, _signal: signalOf, _caching: cachingOf } = Request;
for (const name of ["_incoming", "_is", "_body", "_flat", "_of", "_signal", "_caching"]) delete Request[name];
mixinBody(Request.prototype, bodyOf, (request) => request.headers.get("content-type"));

function notFetchable(input, why) {
  return new TypeError(`${JSON.stringify(input)} is not a URL that can be fetched: ${why}`);
}

function parseUrl(input) {
  input = `${input}`;
  let url;
  try {
    url = new URL(input);
  } catch {
    throw notFetchable(input, "it is not absolute");
  }
  if (url.username !== "" || url.password !== "") throw notFetchable(input, "it holds credentials");
  // A Request keeps the fragment; it is left out on the wire.
  return url.href;
}

const TEXT_TYPE = "text/plain;charset=UTF-8";
const TEXT_FIELDS = `content-type\n${TEXT_TYPE}`;

class Response {
  #status = 200;
  #statusText = "";
  // Made when somebody looks at them, or brings some; until then there is only what the body brings.
  #headers;
  #contentType = null;
  #body = null;
  #url = "";
  #redirected = false;
  #type = "default";
  // encodeBody: "manual": the body has the encoding that Content-Encoding says.
  #encoded = false;

  constructor(body = null, init = undefined) {
    if (body === INCOMING) {
      this.#headers = init.headers;
      return;
    }
    if (init !== undefined && init !== null) this.#apply(init);
    if (body === null) return;
    const state = extractBody(body);
    if (isNullBody(this.#status)) throw new TypeError(`Response: status ${this.#status} has no body`);
    this.#body = state;
    if (state.type !== null) this.#bring(state.type);
  }

  // The type of the body, unless the headers say another.
  #bring(type) {
    if (this.#headers === undefined) this.#contentType = type;
    else setIfAbsent(this.#headers, "content-type", type);
  }

  #apply(init) {
    if (typeof init !== "object" && typeof init !== "function") throw new TypeError("Response: init must be an object");
    const { status, statusText, headers, encodeBody } = init;
    if (status !== undefined) {
      const number = Number(status);
      if (!Number.isInteger(number) || (number !== 101 && (number < 200 || number > 599))) {
        throw new RangeError(`Response: status ${status} is outside 200 to 599`);
      }
      this.#status = number;
    }
    if (statusText !== undefined) {
      this.#statusText = `${statusText}`;
      if (!REASON.test(this.#statusText)) throw new TypeError("Response: statusText holds characters that HTTP does not allow");
    }
    if (encodeBody !== undefined) {
      if (encodeBody !== "automatic" && encodeBody !== "manual") {
        throw new TypeError('Response: encodeBody is "automatic" or "manual"');
      }
      this.#encoded = encodeBody === "manual";
    }
    if (headers !== undefined) this.#headers = isHeaders(headers) ? copyHeaders(headers) : new Headers(headers);
  }

  static json(data, init = undefined) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("Response.json(): the value has no JSON form");
    const response = new Response(null, init);
    if (isNullBody(response.#status)) throw new TypeError(`Response.json(): status ${response.#status} has no body`);
    response.#body = extractBody(text);
    response.#bring("application/json");
    return response;
  }

  static redirect(url, status = 302) {
    const location = new URL(`${url}`).href;
    status = Number(status);
    if (!REDIRECTS.has(status)) throw new RangeError(`Response.redirect(): ${status} is not a redirect status`);
    const response = new Response(null, { status, headers: { location } });
    freezeHeaders(response.#made());
    return response;
  }

  static error() {
    const response = new Response();
    response.#type = "error";
    response.#status = 0;
    freezeHeaders(response.#made());
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

  #made() {
    if (this.#headers === undefined) {
      this.#headers = new Headers();
      if (this.#contentType !== null) setIfAbsent(this.#headers, "content-type", this.#contentType);
    }
    return this.#headers;
  }

  get headers() {
    return this.#made();
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
    if (this.#body !== null && this.#body.unusable) {
      throw new TypeError("Response: the body was used already, so it cannot be cloned");
    }
    const copy = new Response();
    copy.#status = this.#status;
    copy.#statusText = this.#statusText;
    copy.#contentType = this.#contentType;
    if (this.#headers !== undefined) copy.#headers = copyHeaders(this.#headers);
    copy.#type = this.#type;
    copy.#url = this.#url;
    copy.#redirected = this.#redirected;
    copy.#encoded = this.#encoded;
    if (this.#body !== null) copy.#body = this.#body.clone();
    return copy;
  }

  get [Symbol.toStringTag]() {
    return "Response";
  }

  [CUSTOM_INSPECT](inspect, options) {
    return inspect(createFilteredInspectProxy({
      object: this,
      evaluate: isResponse(this),
      keys: ["status", "statusText", "ok", "headers", "url", "redirected", "type", "bodyUsed"],
    }), options);
  }

  static _is(value) {
    return typeof value === "object" && value !== null && #status in value;
  }

  static _body(response) {
    return response.#body;
  }

  static _status(response) {
    return response.#status;
  }

  // The flat form of the headers, which need not be made for it.
  static _fields(response) {
    if (response.#headers !== undefined) return flatHeaders(response.#headers);
    const type = response.#contentType;
    return type === null ? "" : type === TEXT_TYPE ? TEXT_FIELDS : `content-type\n${type}`;
  }

  // The Content-Encoding that the body has to have when it leaves.
  static _coding(response) {
    if (response.#encoded) return response.#body.coding;
    return response.#headers === undefined ? "" : codingOf(response.#headers);
  }

  static _fetched(status, flat, bodyId, url, redirected, signal) {
    const coding = codingOfFlat(flat);
    const response = new Response(INCOMING, { headers: lazyHeaders(() => flat, true, coding) });
    response.#status = status;
    response.#statusText = REASONS[status] ?? "";
    response.#type = "basic";
    response.#url = url;
    response.#redirected = redirected;
    if (bodyId !== 0) {
      const native = new NativeBody(bodyId, coding);
      if (signal !== undefined) native.abortWith(signal);
      response.#body = new BodyState(NATIVE, native);
    }
    return response;
  }
}
const {
  _is: isResponse, _body: responseBody, _status: responseStatus, _fields: responseFields, _coding: responseCoding,
  _fetched: fetched,
} = Response;
for (const name of ["_is", "_body", "_status", "_fields", "_coding", "_fetched"]) delete Response[name];
mixinBody(Response.prototype, responseBody, (response) => response.headers.get("content-type"));

let nextFetch = 1;

async function fetch(input, init = undefined) {
  const invocation = core.getAsyncContext();
  if (typeof invocation !== "number") {
    throw new TypeError("fetch() works only while a request is handled: move it from the top level into the handler");
  }
  const request = init === undefined && isRequest(input) ? input : new Request(input, init);
  const signal = signalOf(request);
  signal?.throwIfAborted();
  let { method, url } = request;
  const { redirect } = request;
  const hash = url.indexOf("#");
  if (hash >= 0) url = url.slice(0, hash);
  // Rust has them, unless a redirect may leave some out.
  const headersFrom = redirect === "manual" ? headersOf(request) : 0;
  let headers = headersFrom === 0 ? flatOf(request) : "";
  const body = method === "GET" || method === "HEAD" ? null : bodyOf(request);
  // A response's body sent on as a request's: encoded only if this request says so, too.
  const coded = body !== null && body.coding !== "" && body.coding === codingOf(request.headers);
  let [bytes, bodyId] = outgoing(body, coded ? body.coding : "", invocation);
  const cf = cachingOf(request);
  for (let hops = 0;; hops++) {
    const [status, flat, answerId] = await send(invocation, `${method} ${url}`, headersFrom, headers, bytes, bodyId, cf, signal);
    const location = redirect !== "manual" && REDIRECTS.has(status) ? headerOf(flat, "location") : null;
    if (location === null) return fetched(status, flat, answerId, url, hops > 0, signal);
    if (answerId !== 0) op_body_close(answerId);
    if (redirect === "error") throw new TypeError(`fetch(): ${url} redirects, and redirect is "error"`);
    if (hops === MAX_REDIRECTS) throw new TypeError(`fetch(): more than ${MAX_REDIRECTS} redirects`);
    if (bodyId !== 0 && status !== 303) throw new TypeError("fetch(): a streamed body cannot follow a redirect");
    const next = redirectTarget(location, url);
    if (status === 303 ? method !== "HEAD" && method !== "GET" : status <= 302 && method === "POST") {
      method = "GET";
      bytes = null;
      bodyId = 0;
      headers = withoutHeaders(headers, (name) => name.startsWith("content-"));
    }
    // Credentials stay with the origin they were meant for (fetch section 4.4, step 13).
    if (next.origin !== new URL(url).origin) {
      headers = withoutHeaders(headers, (name) => name === "authorization" || name === "cookie" || name === "proxy-authorization");
    }
    url = next.href;
  }
}

function redirectTarget(location, base) {
  let next;
  try {
    next = new URL(location, base);
  } catch {
    throw new TypeError(`fetch(): ${base} redirects to ${JSON.stringify(location)}, which is not a URL`);
  }
  if (next.username !== "" || next.password !== "") {
    throw new TypeError(`fetch(): ${base} redirects to a URL that holds credentials`);
  }
  next.hash = "";
  return next;
}

function send(invocation, line, headersFrom, headers, bytes, bodyId, cf, signal) {
  if (signal === undefined) return op_fetch(invocation, 0, line, headersFrom, headers, bytes, bodyId, cf);
  return sendUntil(signal, invocation, line, headersFrom, headers, bytes, bodyId, cf);
}

async function sendUntil(signal, invocation, line, headersFrom, headers, bytes, bodyId, cf) {
  const token = nextFetch;
  nextFetch = token === 0x3fffffff ? 1 : token + 1;
  const cancel = () => op_fetch_cancel(token);
  signal.addEventListener("abort", cancel, { once: true });
  try {
    const head = await op_fetch(invocation, token, line, headersFrom, headers, bytes, bodyId, cf);
    if (signal.aborted && head[2] !== 0) op_body_close(head[2]);
    signal.throwIfAborted();
    return head;
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

return {
  Request, Response, fetch, abort, forget, incoming, isRequest, isResponse, responseBody, responseStatus, responseFields,
  responseCoding, fieldsOf: flatOf, fetched,
};
})();
