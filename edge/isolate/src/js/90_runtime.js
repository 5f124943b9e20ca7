// What Rust calls, and the global scope a function sees. Runs once, when the snapshot is made; Rust takes `boot` and
// `dispatch` from the global after a start and removes the name.

(function () {
"use strict";
const { core, primordials } = __bootstrap;
const { ObjectGetPrototypeOf, PromisePrototype } = primordials;
const {
  op_respond, op_respond_text, op_fail, op_wait_until, op_pass_through, op_log, op_call, op_call_async, op_purge,
} = core.ops;
const load = (name) => core.loadExtScript(`ext:deno_web/${name}.js`);
const loadOwn = (name) => core.loadExtScript(`ext:skerry/${name}.js`);
const { bareOps, queueMicrotask, refuseSharedMemory } = loadOwn("00_guards");
const { cells, performance } = loadOwn("05_clock");
const { Headers } = loadOwn("10_headers");
const { Blob, File } = loadOwn("12_blob");
const { FormData } = loadOwn("15_formdata");
const { outgoing, TEXT } = loadOwn("20_body");
const {
  Request, Response, fetch, abort, forget, incoming, isRequest, isResponse, responseBody, responseStatus, responseFields,
  responseCoding,
} = loadOwn("30_messages");
const { Cache, CacheStorage, caches } = loadOwn("35_caches");
const { IdentityTransformStream, FixedLengthStream, CompressionStream, DecompressionStream } = loadOwn("40_streams");
const webcrypto = loadOwn("50_crypto");
const { console, describe, show, report } = loadOwn("60_console");
const { getAsyncContext, setAsyncContext } = core;

function respond(id, response) {
  if (!isResponse(response)) {
    op_fail(id, "invalid", `The handler returned ${show([response])}, not a Response`);
    return;
  }
  const status = responseStatus(response);
  if (status === 0) {
    op_fail(id, "invalid", "The handler returned Response.error()");
    return;
  }
  try {
    const body = responseBody(response);
    const flat = responseFields(response);
    if (body === null) {
      op_respond(id, status, flat, null, 0);
      return;
    }
    const coding = responseCoding(response);
    if (coding === "" && body.kind === TEXT && body.stream === null && !body.used) {
      body.used = true;
      op_respond_text(id, status, flat, body.source);
      return;
    }
    const [bytes, bodyId] = outgoing(body, coding, id);
    op_respond(id, status, flat, bytes, bodyId);
  } catch (error) {
    op_fail(id, "invalid", describe(error));
  }
}

// Who has it may make what only the platform makes.
const MAKER = Symbol("maker");

function onlyFor(maker) {
  if (maker !== MAKER) throw new TypeError("Illegal constructor");
}

// What the cache in front has of this function (https://developers.cloudflare.com/workers/cache/purge/).
class CacheContext {
  #id;

  constructor(maker, id) {
    onlyFor(maker);
    this.#id = id;
  }

  // Resolves to { success, errors } once the purge is in force in this PoP, and durable for the others.
  async purge(options) {
    if (typeof options !== "object" || options === null) {
      throw new TypeError("ctx.cache.purge() needs { tags, pathPrefixes } or { purgeEverything: true }");
    }
    const { tags, pathPrefixes, purgeEverything } = options;
    return JSON.parse(await op_purge(this.#id, JSON.stringify({ tags, pathPrefixes, purgeEverything })));
  }
}

class ExecutionContext {
  #id;
  #cache;

  constructor(maker, id) {
    onlyFor(maker);
    this.#id = id;
  }

  get cache() {
    return this.#cache ??= new CacheContext(MAKER, this.#id);
  }

  waitUntil(promise) {
    const id = this.#id;
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
    op_pass_through(this.#id);
  }
}

function currentInvocation(what) {
  const id = getAsyncContext();
  if (typeof id !== "number") throw new TypeError(`${what} works only while a request is handled`);
  return id;
}

class RateLimit {
  #name;

  constructor(maker, name) {
    onlyFor(maker);
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

  constructor(maker, name) {
    onlyFor(maker);
    this.#name = name;
  }

  // Of a Request (its Authorization header) or a token: { ok, subject, claims } or { ok: false, reason, response }.
  async verify(input) {
    const id = currentInvocation(`${this.#name}.verify()`);
    const authorization = isRequest(input) ? input.headers.get("authorization") ?? "" : `Bearer ${input}`;
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

  constructor(maker, name) {
    onlyFor(maker);
    this.#name = name;
  }

  // Of a Request (its cookie; a new client gets one) or of a key: { cohort, isNew, setCookie }.
  assign(input) {
    const id = currentInvocation(`${this.#name}.assign()`);
    const byRequest = isRequest(input);
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
for (const name of Object.keys(edge)) Object.freeze(edge[name]);
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
  for (const { name, kind, value } of JSON.parse(bindings)) env[name] = kind === "var" ? value : new BINDINGS[kind](MAKER, name);
  handler = main;
  return "";
}

function dispatch(id, method, body) {
  setAsyncContext(id);
  try {
    const answer = handler.fetch(incoming(id, method, body), env, new ExecutionContext(MAKER, id));
    // Most handlers are async, and V8 is slow to find that a promise is no Response.
    const isPromise = typeof answer === "object" && answer !== null && ObjectGetPrototypeOf(answer) === PromisePrototype;
    if (!isPromise && isResponse(answer)) {
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
core.setUnhandledPromiseRejectionHandler((_promise, reason) => {
  report("Unhandled rejection", reason);
  return true;
});
core.setReportExceptionCallback((error) => report("Uncaught", error));

function reportError(error) {
  report("Uncaught", error);
}

const scheduler = {
  // Resolves after so many milliseconds, or rejects when the signal aborts before.
  async wait(delay, { signal } = {}) {
    signal?.throwIfAborted();
    await new Promise((resolve, reject) => {
      const onAbort = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      }, delay);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  },
};

const { structuredClone: clone } = load("02_structured_clone");
const { DOMException } = load("01_dom_exception");
const detach = Function.prototype.call.bind(ArrayBuffer.prototype.transfer);

// The crate's clones leave what was transferred with its owner.
function structuredClone(value, options = undefined) {
  if (arguments.length === 0) throw new TypeError("structuredClone(): a value is needed");
  const transfer = [...options?.transfer ?? []];
  for (const buffer of transfer) {
    if (!core.isArrayBuffer(buffer) || buffer.detached) {
      throw new DOMException("structuredClone(): only ArrayBuffers can be transferred, each once", "DataCloneError");
    }
  }
  const copy = clone(value);
  for (const buffer of transfer) detach(buffer, 0);
  return copy;
}

const visible = (value) => ({ value, writable: true, enumerable: true, configurable: true });
const hidden = (value) => ({ value, writable: true, enumerable: false, configurable: true });

const events = load("02_event");
const aborts = load("03_abort_signal");
const streams = load("06_streams");
const encoding = load("08_text_encoding");
const timers = core.loadExtScript("ext:skerry/25_timers.js");
const base64 = load("05_base64");
const urls = load("00_url");
const { setTimeout, clearTimeout } = timers;

const interfaces = {
  Headers, FormData, Request, Response,
  DOMException,
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
  CompressionStream, DecompressionStream, IdentityTransformStream, FixedLengthStream,
  Blob, File, Cache, CacheStorage,
};
const functions = {
  fetch, reportError, queueMicrotask,
  atob: base64.atob, btoa: base64.btoa,
  setTimeout, clearTimeout,
  setInterval: timers.setInterval, clearInterval: timers.clearInterval,
  structuredClone,
};
for (const name of Object.keys(interfaces)) Object.defineProperty(globalThis, name, hidden(interfaces[name]));
for (const name of Object.keys(functions)) Object.defineProperty(globalThis, name, visible(functions[name]));
Object.defineProperties(globalThis, {
  self: { value: globalThis, writable: true, enumerable: true, configurable: true },
  console: hidden(console),
  performance: hidden(performance),
  caches: hidden(caches),
  scheduler: hidden(scheduler),
  navigator: hidden(Object.freeze({ userAgent: "Skerry" })),
  [Symbol.for("skerry:edge")]: { value: Object.freeze(edge), writable: false, enumerable: false, configurable: false },
});

// Native objects cannot be in a snapshot, so `crypto` is made on first use.
for (const name of ["Crypto", "CryptoKey", "SubtleCrypto"]) Object.defineProperty(globalThis, name, hidden(webcrypto[name]));
Object.defineProperty(globalThis, "crypto", {
  get: webcrypto.crypto,
  set: (value) => Object.defineProperty(globalThis, "crypto", hidden(value)),
  enumerable: false,
  configurable: true,
});

// Absent, though Workers has it: HTMLRewriter, WebSocket and WebSocketPair, EventSource,
// MessageChannel and MessagePort, addEventListener and the service worker syntax, crypto.DigestStream, performance.mark
// and measure, URL.createObjectURL, ShadowRealm, SharedArrayBuffer, and everything under "node:" and "cloudflare:".

// What most handlers do, for the snapshot: what it runs is compiled once, and not by the first request of each isolate.
async function rehearsed(request, _env, ctx) {
  const { pathname, searchParams } = new URL(request.url);
  const headers = new Headers(request.headers);
  for (const [name, value] of headers) headers.set(name, value);
  ctx.waitUntil(Promise.resolve());
  searchParams.get(request.method);
  const response = new Response(JSON.stringify({ pathname }), { status: 201, headers: { "x-a": headers.get("x-a") ?? "" } });
  response.headers.set("x-b", request.headers.get("x-b"));
  return response;
}

globalThis.__skerry = {
  // Rust takes this first, in an isolate that has started and before any code of a function.
  get boot() {
    refuseSharedMemory();
    return boot;
  },
  dispatch,
  clock: cells,
  // Called while the snapshot is made, for requests that nobody sent.
  rehearse(ids) {
    const handlers = [{ fetch: () => new Response("") }, { fetch: rehearsed }, { fetch: () => Response.json({}) }];
    env = {};
    for (let n = 0; n < handlers.length; n++) {
      handler = handlers[n];
      dispatch(ids[n], 1, 0);
    }
    handler = env = undefined;
  },
  // For the test that calls them as an intruder would.
  bareOps,
  // Called before the next stretch of JavaScript for an invocation that left something here: when its client has gone,
  // and when it is over.
  release(id, gone) {
    if (gone) {
      // What listens for it goes on on account of its request.
      setAsyncContext(id);
      try {
        abort(id);
      } finally {
        setAsyncContext(undefined);
      }
    } else {
      timers.releaseTimers(id);
      forget(id);
    }
  },
};
})();
