// Streams that Workers has beyond the standard, and the bounds of the compressing ones.

(function () {
"use strict";
const { core } = __bootstrap;
const {
  op_body_close, op_body_decode, op_body_read, op_stream_new, op_stream_write, op_stream_end,
  op_compression_new, op_compression_finish,
} = core.ops;
const { ReadableStream, WritableStream, TransformStream } = core.loadExtScript("ext:deno_web/06_streams.js");
const { asBytes, compress, lengths } = core.loadExtScript("ext:skerry/20_body.js");

// Bytes in, the same bytes out.
class IdentityTransformStream extends TransformStream {
  constructor() {
    super({
      transform(chunk, controller) {
        controller.enqueue(asBytes(chunk));
      },
    });
  }
}

// As many bytes as promised, or an error: a body made of its readable side has that Content-Length.
class FixedLengthStream extends TransformStream {
  constructor(length) {
    const expected = Number(length);
    if (!Number.isSafeInteger(expected) || expected < 0) throw new TypeError("FixedLengthStream: the length must be a whole number");
    let left = expected;
    super({
      transform(chunk, controller) {
        const bytes = asBytes(chunk);
        if (bytes.byteLength > left) throw new TypeError(`FixedLengthStream: more than the ${expected} bytes promised`);
        left -= bytes.byteLength;
        controller.enqueue(bytes);
      },
      flush() {
        if (left > 0) throw new TypeError(`FixedLengthStream: ${left} bytes fewer than the ${expected} promised`);
      },
    });
    lengths.set(this.readable, expected);
  }
}

const CODINGS = { __proto__: null, gzip: "gzip", deflate: "zlib", "deflate-raw": "deflate-raw", brotli: "br" };

// The crate's own class decodes a whole chunk at once, whatever it expands to. This one goes through Rust's bodies, a
// bounded piece at a time.
class DecompressionStream {
  #readable;
  #writable;

  constructor(format) {
    const coding = CODINGS[`${format}`];
    if (coding === undefined) throw new TypeError(`DecompressionStream: unknown format ${JSON.stringify(`${format}`)}`);
    const invocation = core.getAsyncContext();
    const owner = typeof invocation === "number" ? invocation : 0;
    const id = op_stream_new(owner);
    op_body_decode(id, coding);
    let output;
    const fail = (error) => {
      output.error(error);
      op_stream_end(id, "aborted");
      op_body_close(id);
    };
    this.#readable = new ReadableStream({
      start(controller) {
        output = controller;
      },
      async pull(controller) {
        const chunk = await op_body_read(id);
        if (chunk === null) controller.close();
        else controller.enqueue(chunk);
      },
      cancel() {
        op_stream_end(id, "cancelled");
        op_body_close(id);
      },
    }, { highWaterMark: 0 });
    this.#writable = new WritableStream({
      async write(chunk) {
        const bytes = asBytes(chunk);
        for (let at = 0; at < bytes.byteLength; at += 65536) {
          if (!await op_stream_write(owner, id, bytes.slice(at, at + 65536))) {
            throw new TypeError("DecompressionStream: the data is malformed, or goes on after its end");
          }
        }
      },
      close() {
        op_stream_end(id, "");
      },
      abort: fail,
    });
  }

  get readable() {
    return this.#readable;
  }

  get writable() {
    return this.#writable;
  }

  get [Symbol.toStringTag]() {
    return "DecompressionStream";
  }
}

// An encoder holds memory outside the heap until it is finished, or collected.
const MAX_ENCODERS = 256;
let encoders = 0;

function closed(encoder) {
  if (encoder.open) encoders--;
  encoder.open = false;
}
const collected = new FinalizationRegistry(closed);

class CompressionStream {
  #transform;

  constructor(format) {
    format = `${format}`;
    if (CODINGS[format] === undefined) throw new TypeError(`CompressionStream: unknown format ${JSON.stringify(format)}`);
    if (encoders >= MAX_ENCODERS) throw new RangeError(`CompressionStream: more than ${MAX_ENCODERS} of them are open`);
    const encoder = { open: true, native: op_compression_new(format, false) };
    encoders++;
    const give = (controller, bytes) => {
      if (bytes.byteLength > 0) controller.enqueue(bytes);
    };
    this.#transform = new TransformStream({
      transform(chunk, controller) {
        compress(encoder.native, asBytes(chunk), (bytes) => controller.enqueue(bytes));
      },
      flush(controller) {
        closed(encoder);
        give(controller, op_compression_finish(encoder.native, true));
      },
      cancel() {
        closed(encoder);
        op_compression_finish(encoder.native, false);
      },
    });
    collected.register(this.#transform, encoder);
  }

  get readable() {
    return this.#transform.readable;
  }

  get writable() {
    return this.#transform.writable;
  }

  get [Symbol.toStringTag]() {
    return "CompressionStream";
  }
}

return { IdentityTransformStream, FixedLengthStream, CompressionStream, DecompressionStream };
})();
