// Bodies (https://fetch.spec.whatwg.org/#bodies). A body is null or one of four sources; a ReadableStream is made only
// when somebody asks for `.body`, so that text, bytes and what Rust holds pass through without one.

(function () {
"use strict";
const { core } = __bootstrap;
const {
  op_body_read, op_body_read_all, op_body_close, op_body_decode, op_body_length,
  op_stream_new, op_stream_write, op_stream_end,
  op_compression_new, op_compression_write, op_compression_finish,
} = core.ops;
const {
  ReadableStream, TransformStream, createReadableByteStream, isReadableStream, isReadableStreamDisturbed, readableStreamTee,
  readableStreamDisturb, acquireReadableStreamDefaultReader, createProxy,
} = core.loadExtScript("ext:deno_web/06_streams.js");
const { Blob, isBlob, blobOf, blobBytes, blobType, joined } = core.loadExtScript("ext:skerry/12_blob.js");
const { URLSearchParams } = core.loadExtScript("ext:deno_web/00_url.js");
const { isFormData, formDataToBlob, parseFormData } = core.loadExtScript("ext:skerry/15_formdata.js");

const TEXT = 1, BYTES = 2, NATIVE = 3, STREAM = 4;
const MAX_CHUNK = 65536;

const { defineProperty, setPrototypeOf } = Object;

// What `.body` is. Whoever is given one finds the body behind it, so that an untouched native body is handed on natively,
// and what one of two holders reads the other sees as read.
//
// Most are only handed on, and a ReadableStream costs more than the rest of such a request: the parts of one (PARTS) are
// made when something first looks for them, and then the prototype is that of ReadableStream itself.
class BodyStream {
  #body;

  constructor(body) {
    this.#body = body;
  }

  static _body(value) {
    return typeof value === "object" && value !== null && #body in value ? value.#body : undefined;
  }
}
const bodyBehind = BodyStream._body;
delete BodyStream._body;
delete BodyStream.prototype.constructor;
setPrototypeOf(BodyStream.prototype, ReadableStream.prototype);

// The symbols under which deno_web keeps the parts of a stream; that of its controller, and the controller's of its stream.
const sample = createReadableByteStream(() => {}, async () => {}, async () => {});
const PARTS = Object.getOwnPropertySymbols(sample);
const [CONTROLLER, STREAM_OF] = PARTS.flatMap((part) => {
  const value = sample[part];
  const symbols = typeof value === "object" && value !== null ? Object.getOwnPropertySymbols(value) : [];
  return symbols.filter((symbol) => value[symbol] === sample).map((symbol) => [part, symbol]);
})[0];
for (const part of PARTS) {
  defineProperty(BodyStream.prototype, part, {
    __proto__: null,
    get() {
      return makeStream(this) ? this[part] : undefined;
    },
    set(value) {
      if (makeStream(this)) this[part] = value;
    },
    configurable: true,
  });
}

// Gives a BodyStream its parts, unless it has them. Whether it was one without.
function makeStream(stream) {
  const body = bodyBehind(stream);
  if (body === undefined || body.stream !== stream || !body.unmade) return false;
  body.unmade = false;
  const made = body.streamed();
  setPrototypeOf(stream, ReadableStream.prototype);
  for (let i = 0; i < PARTS.length; i++) {
    const value = made[PARTS[i]];
    defineProperty(stream, PARTS[i], { __proto__: null, value, writable: true, enumerable: true, configurable: true });
  }
  stream[CONTROLLER][STREAM_OF] = stream;
  if (body.used) seal(stream);
  return true;
}

// Lengths that streams promised (FixedLengthStream).
const lengths = new WeakMap();

// A body that Rust holds, by its number.
class NativeBody {
  constructor(id, coding) {
    this.id = id;
    // Content-Encoding of the bytes as they are, or "".
    this.coding = coding;
    this.signal = null;
    this.onAbort = null;
    // Rejects the read under way.
    this.fail = null;
  }

  // The next chunk, or null at the end.
  read() {
    return this.#through(op_body_read);
  }

  readAll() {
    return this.#through(op_body_read_all);
  }

  async #through(op) {
    this.decode();
    if (this.signal === null) return await op(this.id);
    this.signal.throwIfAborted();
    const reading = op(this.id);
    try {
      const bytes = await new Promise((resolve, reject) => {
        this.fail = reject;
        reading.then(resolve, reject);
      });
      if (bytes === null || op === op_body_read_all) this.release();
      return bytes;
    } catch (error) {
      this.release();
      throw error;
    }
  }

  // Undoes the Content-Encoding from here on: in Rust, chunk by chunk, within bounds.
  decode() {
    if (this.coding === "") return;
    const codings = codingsIn(this.coding);
    this.coding = "";
    // The one named last was applied last.
    for (let i = codings.length - 1; i >= 0; i--) op_body_decode(this.id, codings[i]);
  }

  // A signal's abort closes the body and rejects the read under way, until the body has ended or is Rust's again.
  abortWith(signal) {
    this.signal = signal;
    this.onAbort = () => {
      op_body_close(this.id);
      this.fail?.(signal.reason);
    };
    signal.addEventListener("abort", this.onAbort, { once: true });
  }

  release() {
    if (this.onAbort === null) return;
    this.signal.removeEventListener("abort", this.onAbort);
    this.onAbort = this.fail = null;
  }

  close() {
    this.release();
    op_body_close(this.id);
  }

  // The number, for Rust to take the body over.
  given() {
    this.release();
    return this.id;
  }
}

class BodyState {
  constructor(kind, source) {
    this.kind = kind;
    this.source = source;
    this.stream = kind === STREAM ? source : null;
    // `stream` is a BodyStream without its parts.
    this.unmade = false;
    this.used = false;
    // The Content-Type it brings, or null.
    this.type = null;
  }

  get disturbed() {
    return this.used || (this.#isMade && isReadableStreamDisturbed(this.stream));
  }

  get unusable() {
    return this.used || (this.#isMade && (this.stream.locked || isReadableStreamDisturbed(this.stream)));
  }

  get #isMade() {
    return this.stream !== null && !this.unmade;
  }

  // The stream of this body, made at most once.
  asStream() {
    if (this.stream === null) {
      this.stream = new BodyStream(this);
      this.unmade = true;
    }
    return this.stream;
  }

  // A ReadableStream of what is not one.
  streamed() {
    if (this.kind === NATIVE) {
      const native = this.source;
      const pull = async (controller) => {
        const chunk = await native.read();
        if (chunk === null) {
          controller.close();
          controller.byobRequest?.respond(0);
        } else {
          controller.enqueue(chunk);
        }
      };
      return createReadableByteStream(() => {}, pull, async () => native.close());
    }
    const bytes = this.kind === TEXT ? core.encode(this.source) : this.source;
    const start = (controller) => {
      if (bytes.byteLength > 0) controller.enqueue(bytes.slice());
      controller.close();
      controller.byobRequest?.respond(0);
    };
    return createReadableByteStream(start, async () => {}, async () => {});
  }

  // The Content-Encoding that its bytes still have, or "".
  get coding() {
    return this.kind === NATIVE ? this.source.coding : "";
  }

  // Takes everything as bytes that the caller may keep.
  async bytes() {
    this.take();
    const { kind, source } = this;
    if (kind === TEXT) return core.encode(source);
    if (kind === BYTES) return source.slice();
    if (kind === NATIVE) return await source.readAll();
    const reader = acquireReadableStreamDefaultReader(source);
    const chunks = [];
    let length = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return chunks.length === 1 ? chunks[0].slice() : joined(chunks, length);
      let bytes;
      try {
        bytes = asBytes(value);
      } catch (error) {
        reader.cancel(error).catch(() => {});
        throw error;
      }
      chunks.push(bytes);
      length += bytes.byteLength;
    }
  }

  async text() {
    if (this.kind === TEXT) {
      this.take();
      const text = this.source.toWellFormed();
      return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
    }
    // core.decode() leaves a byte order mark out, as fetch's "UTF-8 decode" does.
    return core.decode(await this.bytes());
  }

  // From here on this body is its taker's. A stream made for it earlier must not read from under the taker.
  take() {
    if (this.unusable) throw new TypeError("The body has been used already: clone() before the first use to read it twice");
    this.used = true;
    if (this.#isMade && this.kind !== STREAM) seal(this.stream);
  }

  // Moves into a new body, as into a Request made from another one.
  transferred() {
    const { kind, source } = this;
    // The holder of the old stream must find it locked, so the new body has one of its own.
    const proxy = kind === STREAM && !this.unusable ? createProxy(source) : null;
    if (proxy === null) this.take();
    this.used = true;
    return new BodyState(kind, kind === STREAM ? proxy : source);
  }

  clone() {
    if (this.unusable) throw new TypeError("The body has been used already, so it cannot be cloned");
    if (this.stream === null && this.kind <= BYTES) return new BodyState(this.kind, this.source);
    const [mine, theirs] = readableStreamTee(this.asStream(), true);
    this.kind = STREAM;
    this.source = this.stream = mine;
    return new BodyState(STREAM, theirs);
  }
}

// Locks a stream for ever: what it stood for was read otherwise.
function seal(stream) {
  acquireReadableStreamDefaultReader(stream);
  readableStreamDisturb(stream);
}

const KNOWN_CODINGS = { __proto__: null, gzip: "gzip", "x-gzip": "gzip", deflate: "deflate", br: "br" };

// The codings in a Content-Encoding that are known here, up to the first that is not.
function codingsIn(value) {
  const codings = [];
  const names = value.split(",");
  for (let i = names.length - 1; i >= 0; i--) {
    const name = names[i].trim();
    if (name === "identity" || name === "") continue;
    if (KNOWN_CODINGS[name] === undefined || codings.length === 3) break;
    codings.unshift(KNOWN_CODINGS[name]);
  }
  return codings;
}

function asBytes(chunk) {
  if (ArrayBuffer.isView(chunk)) {
    return chunk instanceof Uint8Array ? chunk : new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  }
  if (core.isAnyArrayBuffer(chunk)) return new Uint8Array(chunk);
  throw new TypeError("A body stream may only give bytes (Uint8Array): pipe text through a TextEncoderStream");
}

function typed(body, type) {
  body.type = type;
  return body;
}

// From a BodyInit: the body, or null.
function extractBody(init) {
  if (typeof init === "string") return typed(new BodyState(TEXT, init), "text/plain;charset=UTF-8");
  if (init === null || init === undefined) return null;
  const body = bodyBehind(init);
  if (body !== undefined && body.stream === init && !body.unusable) return body;
  if (isReadableStream(init)) {
    if (init.locked || isReadableStreamDisturbed(init)) throw new TypeError("The stream is locked or was read already");
    return new BodyState(STREAM, init);
  }
  if (ArrayBuffer.isView(init)) return new BodyState(BYTES, asBytes(init).slice());
  if (core.isAnyArrayBuffer(init)) return new BodyState(BYTES, new Uint8Array(init.slice(0)));
  if (init instanceof URLSearchParams) {
    return typed(new BodyState(TEXT, `${init}`), "application/x-www-form-urlencoded;charset=UTF-8");
  }
  if (isFormData(init)) init = formDataToBlob(init);
  if (isBlob(init)) return typed(new BodyState(BYTES, blobBytes(init)), blobType(init) || null);
  return typed(new BodyState(TEXT, `${init}`), "text/plain;charset=UTF-8");
}

// Gives a class the members of the Body mixin. `state(object)` finds its BodyState or null.
function mixinBody(prototype, state, contentType) {
  const define = (name, get) => Object.defineProperty(prototype, name, { get, enumerable: true, configurable: true });
  define("body", function () {
    const body = state(this);
    return body === null ? null : body.asStream();
  });
  define("bodyUsed", function () {
    const body = state(this);
    return body !== null && body.disturbed;
  });
  const members = {
    async text() {
      const body = state(this);
      return body === null ? "" : await body.text();
    },
    async json() {
      const body = state(this);
      return JSON.parse(body === null ? "" : await body.text());
    },
    async bytes() {
      const body = state(this);
      return body === null ? new Uint8Array() : await body.bytes();
    },
    async arrayBuffer() {
      const body = state(this);
      return body === null ? new ArrayBuffer(0) : exactBuffer(await body.bytes());
    },
    async blob() {
      const body = state(this);
      return blobOf(body === null ? [] : [await body.bytes()], contentType(this) ?? "");
    },
    async formData() {
      const body = state(this);
      return parseFormData(contentType(this), body === null ? new Uint8Array() : await body.bytes());
    },
  };
  for (const name of Object.keys(members)) {
    Object.defineProperty(prototype, name, { value: members[name], writable: true, enumerable: true, configurable: true });
  }
}

function exactBuffer(bytes) {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
}

// A body on its way to Rust: [bytes or null, id of a native body or 0]. `coding` is the Content-Encoding that its
// message announces: what was fetched encoded that way goes on as it came, all else is brought to it.
function outgoing(body, coding, invocation) {
  if (body === null) return [null, 0];
  if (body.coding !== coding) body = recoded(body, coding);
  if (body.kind === STREAM) {
    if (body.unusable) body.take();
    body.used = true;
    return [null, streamToNative(body.source, invocation)];
  }
  body.take();
  switch (body.kind) {
    case TEXT:
      return [core.encode(body.source), 0];
    case BYTES:
      return [body.source, 0];
    default:
      return [null, body.source.given()];
  }
}

// Compresses a chunk piece by piece: nothing can interrupt the encoder within one.
function compress(encoder, bytes, give) {
  for (let at = 0; at < bytes.byteLength; at += MAX_CHUNK) {
    const out = op_compression_write(encoder, bytes.subarray(at, at + MAX_CHUNK));
    if (out.byteLength > 0) give(out);
  }
}

const ENCODERS = { __proto__: null, gzip: "gzip", "x-gzip": "gzip", deflate: "deflate", br: "brotli" };

function recoded(body, coding) {
  if (body.unusable) return body;
  if (body.kind === NATIVE) body.source.decode();
  const format = ENCODERS[coding];
  // Several codings, or one unknown here: whoever says so has applied them.
  if (format === undefined) return body;
  if (body.kind === TEXT || body.kind === BYTES) {
    body.take();
    const encoder = op_compression_new(format, false);
    const parts = [];
    let length = 0;
    const give = (part) => {
      parts.push(part);
      length += part.byteLength;
    };
    compress(encoder, body.kind === TEXT ? core.encode(body.source) : body.source, give);
    give(op_compression_finish(encoder, true));
    return new BodyState(BYTES, joined(parts, length));
  }
  let encoder;
  return new BodyState(STREAM, body.asStream().pipeThrough(new TransformStream({
    start() {
      encoder = op_compression_new(format, false);
    },
    transform(chunk, controller) {
      compress(encoder, asBytes(chunk), (out) => controller.enqueue(out));
    },
    flush(controller) {
      controller.enqueue(op_compression_finish(encoder, true));
    },
  })));
}

// Hands a stream to Rust: returns the id of a native body, and pumps with back-pressure until the end.
function streamToNative(stream, invocation) {
  const id = op_stream_new(invocation);
  const length = lengths.get(stream);
  if (length !== undefined) op_body_length(id, length);
  pump(invocation, id, acquireReadableStreamDefaultReader(stream));
  return id;
}

async function pump(invocation, id, reader) {
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const bytes = asBytes(value);
      for (let at = 0; at < bytes.byteLength; at += MAX_CHUNK) {
        const chunk = bytes.byteLength <= MAX_CHUNK ? bytes : bytes.subarray(at, at + MAX_CHUNK);
        if (!await op_stream_write(invocation, id, chunk)) {
          await reader.cancel(new TypeError("The other side closed the connection"));
          return;
        }
      }
    }
    op_stream_end(id, "");
  } catch (error) {
    let message = "the stream failed";
    try {
      message = `${error?.message ?? error}` || message;
    } catch {
      // A message that cannot be read is no message.
    }
    op_stream_end(id, message);
    reader.cancel(error).catch(() => {});
  }
}

return { BodyState, NativeBody, extractBody, mixinBody, outgoing, asBytes, compress, lengths, TEXT, NATIVE };
})();
