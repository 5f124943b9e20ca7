// Blob and File (https://w3c.github.io/FileAPI/#blob-section). The bytes are JavaScript's own, so that they count
// against the isolate's limit on buffers, a body made of a blob knows its length, and a slice shares them.

(function () {
"use strict";
const { core } = __bootstrap;
const { ReadableStream } = core.loadExtScript("ext:deno_web/06_streams.js");
const { TextDecoderStream } = core.loadExtScript("ext:deno_web/08_text_encoding.js");
const { now } = core.loadExtScript("ext:skerry/05_clock.js");

const OWN = Symbol("own chunks");
const CUSTOM_INSPECT = Symbol.for("Deno.privateCustomInspect");
const CHUNK = 65536;

// A type is printable ASCII in lower case, or none.
const normalType = (type) => /^[\x20-\x7e]*$/.test(type) ? type.toLowerCase() : "";

function viewOf(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

// Gathers chunks into one array; a single chunk is given as it is.
function joined(chunks, size) {
  if (chunks.length === 1) return chunks[0];
  const all = new Uint8Array(size);
  let at = 0;
  for (let i = 0; i < chunks.length; i++) {
    all.set(chunks[i], at);
    at += chunks[i].byteLength;
  }
  return all;
}

class Blob {
  // Uint8Arrays that nobody else can write to.
  #chunks;
  #size = 0;
  #type;

  constructor(parts = [], options = undefined) {
    if (parts === OWN) {
      this.#chunks = options.chunks;
      for (const chunk of this.#chunks) this.#size += chunk.byteLength;
      this.#type = options.type;
      return;
    }
    if (parts === null || typeof parts !== "object" || typeof parts[Symbol.iterator] !== "function") {
      throw new TypeError("Blob: the parts must be an array or another iterable");
    }
    if (options !== undefined && options !== null && typeof options !== "object" && typeof options !== "function") {
      throw new TypeError("Blob: options must be an object");
    }
    const endings = options?.endings ?? "transparent";
    if (endings !== "transparent" && endings !== "native") throw new TypeError(`Blob: endings ${endings}`);
    this.#chunks = [];
    for (const part of parts) this.#add(part, endings);
    this.#type = options?.type === undefined ? "" : normalType(`${options.type}`);
  }

  #add(part, endings) {
    if (isBlob(part)) {
      for (const chunk of part.#chunks) this.#push(chunk);
    } else if (ArrayBuffer.isView(part)) {
      this.#push(viewOf(part).slice());
    } else if (core.isAnyArrayBuffer(part)) {
      this.#push(new Uint8Array(part.slice(0)));
    } else {
      const text = `${part}`;
      this.#push(core.encode(endings === "native" ? text.replace(/\r\n?/g, "\n") : text));
    }
  }

  #push(chunk) {
    if (chunk.byteLength === 0) return;
    this.#chunks.push(chunk);
    this.#size += chunk.byteLength;
  }

  get size() {
    return this.#size;
  }

  get type() {
    return this.#type;
  }

  slice(start = undefined, end = undefined, type = undefined) {
    const place = (value, otherwise) => {
      if (value === undefined) return otherwise;
      value = Math.trunc(Number(value)) || 0;
      return value < 0 ? Math.max(this.#size + value, 0) : Math.min(value, this.#size);
    };
    let from = place(start, 0);
    let left = Math.max(place(end, this.#size) - from, 0);
    const chunks = [];
    for (const chunk of this.#chunks) {
      if (left === 0) break;
      const length = Math.min(chunk.byteLength - from, left);
      if (length > 0) {
        chunks.push(new Uint8Array(chunk.buffer, chunk.byteOffset + from, length));
        left -= length;
      }
      from = Math.max(from - chunk.byteLength, 0);
    }
    return blobOf(chunks, type === undefined ? "" : normalType(`${type}`));
  }

  stream() {
    const chunks = this.#chunks;
    let index = 0;
    let at = 0;
    return new ReadableStream({
      type: "bytes",
      pull(controller) {
        if (index === chunks.length) {
          controller.close();
          controller.byobRequest?.respond(0);
          return;
        }
        const chunk = chunks[index];
        controller.enqueue(chunk.slice(at, at + CHUNK));
        at += CHUNK;
        if (at >= chunk.byteLength) {
          index++;
          at = 0;
        }
      },
    }, { highWaterMark: 0 });
  }

  textStream() {
    return this.stream().pipeThrough(new TextDecoderStream());
  }

  async text() {
    return core.decode(joined(this.#chunks, this.#size));
  }

  async bytes() {
    const all = joined(this.#chunks, this.#size);
    return this.#chunks.length === 1 ? all.slice() : all;
  }

  async arrayBuffer() {
    return (await bytesOf(this)).buffer;
  }

  get [Symbol.toStringTag]() {
    return "Blob";
  }

  [CUSTOM_INSPECT](inspect, options) {
    return `${this.constructor?.name ?? "Blob"} ${inspect(isFile(this)
      ? { name: this.name, size: this.size, type: this.type, lastModified: this.lastModified }
      : { size: this.size, type: this.type }, options)}`;
  }

  static _is(value) {
    return typeof value === "object" && value !== null && #chunks in value;
  }

  // All bytes, for reading only.
  static _view(blob) {
    return joined(blob.#chunks, blob.#size);
  }

  static _type(blob) {
    return blob.#type;
  }
}
const { _is: isBlob, _view: blobBytes, _type: blobType } = Blob;
for (const name of ["_is", "_view", "_type"]) delete Blob[name];

const bytesOf = Function.prototype.call.bind(Blob.prototype.bytes);

// A blob of bytes that the caller gives up.
const blobOf = (chunks, type) => new Blob(OWN, { chunks, type: normalType(type) });

class File extends Blob {
  #name;
  #lastModified;

  constructor(parts, name, options = undefined) {
    if (arguments.length < 2) throw new TypeError("File: a list of parts and a name are needed");
    super(parts, options);
    this.#name = `${name}`.toWellFormed();
    this.#lastModified = options?.lastModified === undefined ? now() : Math.trunc(Number(options.lastModified)) || 0;
  }

  get name() {
    return this.#name;
  }

  get lastModified() {
    return this.#lastModified;
  }

  get webkitRelativePath() {
    return "";
  }

  get [Symbol.toStringTag]() {
    return "File";
  }

  static _is(value) {
    return typeof value === "object" && value !== null && #name in value;
  }
}
const { _is: isFile } = File;
delete File._is;

return { Blob, File, isBlob, isFile, blobOf, blobBytes, blobType, joined };
})();
