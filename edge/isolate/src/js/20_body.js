// Bodies (https://fetch.spec.whatwg.org/#bodies). A body is null or one of four sources; a ReadableStream is made only
// when somebody asks for `.body`, so that text, bytes and what Rust holds pass through without one.

(function () {
const { core } = __bootstrap;
const {
  op_body_read, op_body_read_all, op_body_close, op_stream_new, op_stream_write, op_stream_end,
} = core.ops;
const { ReadableStream, isReadableStreamDisturbed, readableStreamTee } = core.loadExtScript("ext:deno_web/06_streams.js");
const { Blob } = core.loadExtScript("ext:deno_web/09_file.js");
const { URLSearchParams } = core.loadExtScript("ext:deno_web/00_url.js");
const { FormData, formDataToBlob, parseFormData } = core.loadExtScript("ext:skerry/15_formdata.js");

const TEXT = 1, BYTES = 2, NATIVE = 3, STREAM = 4;
const MAX_CHUNK = 65536;

// The streams that wrap a native body: handing one on, untouched, hands on the native body.
const nativeStreams = new WeakMap();

class BodyState {
  constructor(kind, source) {
    this.kind = kind;
    this.source = source;
    this.stream = null;
    this.used = false;
  }

  get disturbed() {
    return this.used || (this.stream !== null && isReadableStreamDisturbed(this.stream));
  }

  get unusable() {
    return this.disturbed || (this.stream !== null && this.stream.locked);
  }

  // The stream of this body, made at most once.
  asStream() {
    if (this.stream !== null) return this.stream;
    const { kind, source } = this;
    if (kind === STREAM) return (this.stream = source);
    if (kind === NATIVE) {
      const stream = new ReadableStream({
        type: "bytes",
        async pull(controller) {
          const chunk = await op_body_read(source);
          if (chunk === null) {
            controller.close();
            controller.byobRequest?.respond(0);
          } else {
            controller.enqueue(chunk);
          }
        },
        cancel() {
          op_body_close(source);
        },
      }, { highWaterMark: 0 });
      nativeStreams.set(stream, this);
      return (this.stream = stream);
    }
    const bytes = kind === TEXT ? core.encode(source) : source;
    return (this.stream = new ReadableStream({
      type: "bytes",
      start(controller) {
        if (bytes.byteLength > 0) controller.enqueue(bytes.slice());
        controller.close();
        controller.byobRequest?.respond(0);
      },
    }));
  }

  // Takes everything, as a string or as bytes.
  async bytes() {
    this.take();
    const { kind, source } = this;
    if (this.stream === null || this.stream !== source) {
      if (kind === TEXT) return core.encode(source);
      if (kind === BYTES) return source.slice();
      if (kind === NATIVE) return await op_body_read_all(source);
    }
    const chunks = [];
    let length = 0;
    for await (const chunk of source) {
      const bytes = asBytes(chunk);
      chunks.push(bytes);
      length += bytes.byteLength;
    }
    const all = new Uint8Array(length);
    let at = 0;
    for (const chunk of chunks) {
      all.set(chunk, at);
      at += chunk.byteLength;
    }
    return all;
  }

  async text() {
    if (this.kind === TEXT) {
      this.take();
      return this.source.toWellFormed();
    }
    const bytes = await this.bytes();
    // A byte order mark is not part of the text (fetch, "UTF-8 decode").
    const start = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
    return core.decode(start ? bytes.subarray(start) : bytes);
  }

  take() {
    if (this.unusable) throw new TypeError("The body has been used already: clone() before the first use to read it twice");
    this.used = true;
    // A wrapper made earlier must not read from under us.
    if (this.stream !== null && this.kind !== STREAM) nativeStreams.delete(this.stream);
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

function asBytes(chunk) {
  if (chunk instanceof Uint8Array) return chunk;
  if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk);
  throw new TypeError("A body stream may only give bytes (Uint8Array): pipe text through a TextEncoderStream");
}

// From a BodyInit: the state, and the Content-Type it brings (or null).
function extractBody(init) {
  if (init === null || init === undefined) return [null, null];
  if (typeof init === "string") return [new BodyState(TEXT, init), "text/plain;charset=UTF-8"];
  if (init instanceof ReadableStream) {
    if (init.locked || isReadableStreamDisturbed(init)) throw new TypeError("The stream is locked or was read already");
    const native = nativeStreams.get(init);
    if (native !== undefined && !native.used) {
      native.used = true;
      nativeStreams.delete(init);
      return [new BodyState(NATIVE, native.source), null];
    }
    return [new BodyState(STREAM, init), null];
  }
  if (init instanceof ArrayBuffer) return [new BodyState(BYTES, new Uint8Array(init.slice(0))), null];
  if (ArrayBuffer.isView(init)) return [new BodyState(BYTES, asBytes(init).slice()), null];
  if (init instanceof URLSearchParams) {
    return [new BodyState(TEXT, `${init}`), "application/x-www-form-urlencoded;charset=UTF-8"];
  }
  if (init instanceof FormData) init = formDataToBlob(init);
  if (init instanceof Blob) return [new BodyState(STREAM, init.stream()), init.type || null];
  return [new BodyState(TEXT, `${init}`), "text/plain;charset=UTF-8"];
}

// Gives a class the members of the Body mixin. `state(object)` finds its BodyState or null.
function mixinBody(prototype, state, contentType) {
  const consume = (convert) =>
    async function () {
      const body = state(this);
      return convert(body === null ? null : body, this);
    };
  const define = (name, get) => Object.defineProperty(prototype, name, { get, enumerable: true, configurable: true });
  define("body", function () {
    const body = state(this);
    return body === null ? null : body.asStream();
  });
  define("bodyUsed", function () {
    const body = state(this);
    return body !== null && body.disturbed;
  });
  const methods = {
    text: consume((body) => body === null ? "" : body.text()),
    json: consume(async (body) => JSON.parse(body === null ? "" : await body.text())),
    bytes: consume((body) => body === null ? new Uint8Array() : body.bytes()),
    arrayBuffer: consume(async (body) => body === null ? new ArrayBuffer(0) : exactBuffer(await body.bytes())),
    blob: consume(async (body, self) =>
      new Blob(body === null ? [] : [await body.bytes()], { type: contentType(self) ?? "" })),
    formData: consume(async (body, self) =>
      parseFormData(contentType(self), body === null ? new Uint8Array() : await body.bytes())),
  };
  for (const name of Object.keys(methods)) {
    Object.defineProperty(prototype, name, { value: methods[name], writable: true, enumerable: true, configurable: true });
  }
}

function exactBuffer(bytes) {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
}

// Hands a stream to Rust: returns the id of a native body, and pumps with back-pressure until the end.
function streamToNative(stream, invocation) {
  const id = op_stream_new(invocation);
  const reader = stream.getReader();
  const pump = async () => {
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const bytes = asBytes(value);
        for (let at = 0; at < bytes.byteLength; at += MAX_CHUNK) {
          if (!await op_stream_write(invocation, id, bytes.slice(at, at + MAX_CHUNK))) {
            await reader.cancel(new TypeError("The other side closed the connection"));
            return;
          }
        }
      }
      op_stream_end(id, "");
    } catch (error) {
      op_stream_end(id, `${error?.message ?? error}` || "the stream failed");
      reader.cancel(error).catch(() => {});
    }
  };
  pump();
  return id;
}

return { BodyState, extractBody, mixinBody, streamToNative, TEXT, BYTES, NATIVE, STREAM };
})();
