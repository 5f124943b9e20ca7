// What Rust calls, and the global scope a function sees. Runs once, when the snapshot is made; Rust takes `boot` and
// `dispatch` from the global after a start and removes the name.

(function () {
const { core } = __bootstrap;
const {
  op_respond, op_respond_text, op_fail, op_wait_until, op_pass_through, op_log, op_call, op_call_async,
} = core.ops;
const load = (name) => core.loadExtScript(`ext:deno_web/${name}.js`);
const { Headers, flatHeaders } = core.loadExtScript("ext:skerry/10_headers.js");
const { FormData } = core.loadExtScript("ext:skerry/15_formdata.js");
const { TEXT } = core.loadExtScript("ext:skerry/20_body.js");
const { Request, Response, fetch, INCOMING, isResponse, responseBody, outgoing } = core.loadExtScript(
  "ext:skerry/30_messages.js",
);
const { inspectArgs: inspectWith } = load("01_console");
const inspectArgs = (args) => inspectWith(args, { colors: false });
const { getAsyncContext, setAsyncContext } = core;

// The handlers' view of a failure: the message, then the frames that are the function's own.
function describe(error) {
  if (typeof error !== "object" || error === null || typeof error.stack !== "string") return `Uncaught ${inspectArgs([error])}`;
  const lines = error.stack.split("\n").filter((line) => !/\(ext:|at ext:/.test(line));
  return lines.join("\n").replaceAll("file:///", "");
}

function respond(id, response) {
  if (!isResponse(response)) {
    op_fail(id, "invalid", `The handler returned ${inspectArgs([response])}, not a Response`);
    return;
  }
  if (response.status === 0) {
    op_fail(id, "invalid", "The handler returned Response.error()");
    return;
  }
  const body = responseBody(response);
  const flat = flatHeaders(response.headers);
  if (body !== null && body.kind === TEXT && body.stream === null && !body.used) {
    body.used = true;
    op_respond_text(id, response.status, flat, body.source);
    return;
  }
  try {
    const [bytes, bodyId] = outgoing(body, id);
    op_respond(id, response.status, flat, bytes, bodyId);
  } catch (error) {
    op_fail(id, "invalid", describe(error));
  }
}

const ctxIds = new WeakMap();
function idOf(ctx) {
  const id = ctxIds.get(ctx);
  if (id === undefined) throw new TypeError("Illegal invocation: call it as a method of ctx");
  return id;
}

class ExecutionContext {
  waitUntil(promise) {
    const id = idOf(this);
    op_wait_until(id, 1);
    Promise.resolve(promise).then(
      () => op_wait_until(id, -1),
      (error) => {
        op_log(id, 4, `waitUntil: ${describe(error)}`);
        op_wait_until(id, -1);
      },
    );
  }

  passThroughOnException() {
    op_pass_through(idOf(this));
  }
}

function currentInvocation(what) {
  const id = getAsyncContext();
  if (typeof id !== "number") throw new TypeError(`${what} works only while a request is handled`);
  return id;
}

class RateLimit {
  #name;

  constructor(name) {
    this.#name = name;
  }

  async limit(options) {
    const key = options?.key;
    if (typeof key !== "string") throw new TypeError(`${this.#name}.limit() needs { key: string }`);
    return JSON.parse(op_call(currentInvocation(`${this.#name}.limit()`), this.#name, "limit", key));
  }
}

class TokenVerifier {
  #name;

  constructor(name) {
    this.#name = name;
  }

  // Of a Request (its Authorization header) or a token: { ok, subject, claims } or { ok: false, reason, response }.
  async verify(input) {
    const id = currentInvocation(`${this.#name}.verify()`);
    const authorization = input instanceof Request ? input.headers.get("authorization") ?? "" : `Bearer ${input}`;
    let text = op_call(id, this.#name, "verify", authorization);
    // Keys that have to be fetched first cannot be had synchronously.
    if (text === "") text = await op_call_async(id, this.#name, "verify", authorization);
    const result = JSON.parse(text);
    if (result.ok) return result;
    const { status, challenge, retryAfter } = result;
    const headers = { "www-authenticate": challenge, "content-type": "application/json", "cache-control": "no-store" };
    if (retryAfter) headers["retry-after"] = retryAfter;
    return {
      ok: false,
      reason: result.reason,
      response: new Response(JSON.stringify({ error: result.reason, message: result.message }) + "\n", {
        status,
        headers,
      }),
    };
  }
}

class CohortAssigner {
  #name;

  constructor(name) {
    this.#name = name;
  }

  // Of a Request (its cookie; a new client gets one) or of a key: { cohort, isNew, setCookie }.
  assign(input) {
    const id = currentInvocation(`${this.#name}.assign()`);
    const byRequest = input instanceof Request;
    const text = byRequest ? input.headers.get("cookie") ?? "" : `${input}`;
    return JSON.parse(op_call(id, this.#name, byRequest ? "cookie" : "key", text));
  }
}

const BINDINGS = { ratelimit: RateLimit, jwt: TokenVerifier, cohort: CohortAssigner };

// What `import ... from "skerry:edge"` gives.
const edge = {
  // Where an address is, as request.cf says it of the client.
  locate(address) {
    return JSON.parse(op_call(currentInvocation("locate()"), "", "locate", `${address}`));
  },
  // The name of the region nearest to a place. regions: { name: [latitude, longitude] }.
  nearestRegion(place, regions) {
    const { country, latitude, longitude } = place ?? {};
    const args = JSON.stringify({ country, latitude: number(latitude), longitude: number(longitude), regions });
    return JSON.parse(op_call(currentInvocation("nearestRegion()"), "", "nearest", args));
  },
  // A Response for a refused rate limit: 429 with Retry-After and the RateLimit fields.
  tooManyRequests(result) {
    return new Response("Too many requests\n", { status: 429, headers: result.headers });
  },
};
const number = (value) => value === undefined || value === null ? null : Number(value);

let handler;
let env;

// Connects a module to its bindings. Answers "" or what is wrong with it.
function boot(namespace, bindings) {
  const main = namespace.default;
  if (main === undefined) return 'there is no default export: write "export default { async fetch(request, env, ctx) { ... } }"';
  if (main === null || typeof main !== "object" || typeof main.fetch !== "function") {
    return "the default export has no fetch(request, env, ctx) method";
  }
  env = {};
  for (const { name, kind, value } of JSON.parse(bindings)) env[name] = kind === "var" ? value : new BINDINGS[kind](name);
  handler = main;
  return "";
}

function dispatch(id) {
  setAsyncContext(id);
  try {
    const ctx = new ExecutionContext();
    ctxIds.set(ctx, id);
    const answer = handler.fetch(new Request(INCOMING, id), env, ctx);
    if (isResponse(answer)) {
      respond(id, answer);
    } else {
      Promise.resolve(answer).then(
        (response) => respond(id, response),
        (error) => op_fail(id, "threw", describe(error)),
      );
    }
  } catch (error) {
    op_fail(id, "threw", describe(error));
  } finally {
    setAsyncContext(undefined);
  }
}

// A rejection that nobody handles, or a throw in a timer, is the function's mistake, not the end of its isolate.
const report = (what, error) => {
  const id = getAsyncContext();
  op_log(typeof id === "number" ? id : 0, 4, `${what}: ${describe(error)}`);
};
core.setUnhandledPromiseRejectionHandler((_promise, reason) => {
  report("Unhandled rejection", reason);
  return true;
});
core.setReportExceptionCallback((error) => report("Uncaught", error));

const console = {};
for (const [name, level] of [["debug", 1], ["log", 2], ["info", 2], ["trace", 2], ["dir", 2], ["warn", 3], ["error", 4]]) {
  console[name] = (...args) => {
    const id = getAsyncContext();
    op_log(typeof id === "number" ? id : 0, level, inspectArgs(args));
  };
}
console.assert = (condition, ...args) => {
  if (!condition) console.error("Assertion failed:", ...args);
};
for (const name of ["group", "groupCollapsed", "groupEnd", "time", "timeEnd", "timeLog", "count", "countReset", "table", "clear"]) {
  console[name] = name === "table" || name === "group" ? console.log : () => {};
}

const visible = (value) => ({ value, writable: true, enumerable: true, configurable: true });
const hidden = (value) => ({ value, writable: true, enumerable: false, configurable: true });

const events = load("02_event");
const aborts = load("03_abort_signal");
const streams = load("06_streams");
const encoding = load("08_text_encoding");
const files = load("09_file");
const timers = core.loadExtScript("ext:skerry/25_timers.js");
const base64 = load("05_base64");
const compression = load("14_compression");
const exceptions = load("01_dom_exception");
const urls = load("00_url");

const interfaces = {
  Headers, FormData, Request, Response,
  DOMException: exceptions.DOMException,
  Event: events.Event, EventTarget: events.EventTarget, CustomEvent: events.CustomEvent, ErrorEvent: events.ErrorEvent,
  AbortController: aborts.AbortController, AbortSignal: aborts.AbortSignal,
  URL: urls.URL, URLSearchParams: urls.URLSearchParams, URLPattern: load("01_urlpattern").URLPattern,
  ReadableStream: streams.ReadableStream,
  ReadableStreamDefaultReader: streams.ReadableStreamDefaultReader,
  ReadableStreamBYOBReader: streams.ReadableStreamBYOBReader,
  ReadableStreamBYOBRequest: streams.ReadableStreamBYOBRequest,
  ReadableStreamDefaultController: streams.ReadableStreamDefaultController,
  ReadableByteStreamController: streams.ReadableByteStreamController,
  WritableStream: streams.WritableStream,
  WritableStreamDefaultWriter: streams.WritableStreamDefaultWriter,
  WritableStreamDefaultController: streams.WritableStreamDefaultController,
  TransformStream: streams.TransformStream,
  TransformStreamDefaultController: streams.TransformStreamDefaultController,
  ByteLengthQueuingStrategy: streams.ByteLengthQueuingStrategy,
  CountQueuingStrategy: streams.CountQueuingStrategy,
  TextEncoder: encoding.TextEncoder, TextDecoder: encoding.TextDecoder,
  TextEncoderStream: encoding.TextEncoderStream, TextDecoderStream: encoding.TextDecoderStream,
  CompressionStream: compression.CompressionStream, DecompressionStream: compression.DecompressionStream,
  Blob: files.Blob, File: files.File,
};
const functions = {
  fetch,
  atob: base64.atob, btoa: base64.btoa,
  setTimeout: timers.setTimeout, clearTimeout: timers.clearTimeout,
  setInterval: timers.setInterval, clearInterval: timers.clearInterval,
  structuredClone: load("02_structured_clone").structuredClone,
  queueMicrotask: core.queueMicrotask,
};
for (const name of Object.keys(interfaces)) Object.defineProperty(globalThis, name, hidden(interfaces[name]));
for (const name of Object.keys(functions)) Object.defineProperty(globalThis, name, visible(functions[name]));
Object.defineProperties(globalThis, {
  self: { value: globalThis, writable: true, enumerable: true, configurable: true },
  console: hidden(console),
  navigator: hidden(Object.freeze({ userAgent: "Skerry" })),
  [Symbol.for("skerry:edge")]: { value: Object.freeze(edge), writable: false, enumerable: false, configurable: false },
});

// Native classes cannot be in a snapshot, so WebCrypto's objects are made on first use.
const webcrypto = core.loadExtScript("ext:deno_crypto/00_crypto.js");
for (const name of ["crypto", "Crypto", "CryptoKey", "SubtleCrypto"]) {
  Object.defineProperty(globalThis, name, {
    get: () => webcrypto[name],
    set: (value) => Object.defineProperty(globalThis, name, hidden(value)),
    enumerable: false,
    configurable: true,
  });
}

// What an invocation that is over may have left: called with its number before the next stretch of JavaScript.
const release = timers.releaseTimers;

globalThis.__skerry = { boot, dispatch, release };
})();
