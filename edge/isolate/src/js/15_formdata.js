// FormData (https://xhr.spec.whatwg.org/#interface-formdata) and its two encodings.

(function () {
"use strict";
const { core } = __bootstrap;
const { Blob, File, isBlob, isFile } = core.loadExtScript("ext:skerry/12_blob.js");
const { URLSearchParams } = core.loadExtScript("ext:deno_web/00_url.js");

class FormData {
  #entries = [];

  constructor(form = undefined) {
    if (form !== undefined) throw new TypeError("FormData takes no argument here: there is no <form>");
  }

  static #entry(name, value, filename) {
    if (isBlob(value)) {
      if (!isFile(value) || filename !== undefined) {
        const lastModified = isFile(value) ? value.lastModified : undefined;
        value = new File([value], filename ?? "blob", { type: value.type, lastModified });
      }
    } else if (filename !== undefined) {
      throw new TypeError("FormData: only a Blob or File can have a file name");
    } else {
      value = `${value}`.toWellFormed();
    }
    return [`${name}`.toWellFormed(), value];
  }

  append(name, value, filename = undefined) {
    this.#entries.push(FormData.#entry(name, value, filename));
  }

  delete(name) {
    name = `${name}`;
    this.#entries = this.#entries.filter(([key]) => key !== name);
  }

  get(name) {
    name = `${name}`;
    return this.#entries.find(([key]) => key === name)?.[1] ?? null;
  }

  getAll(name) {
    name = `${name}`;
    return this.#entries.filter(([key]) => key === name).map(([, value]) => value);
  }

  has(name) {
    name = `${name}`;
    return this.#entries.some(([key]) => key === name);
  }

  set(name, value, filename = undefined) {
    const entry = FormData.#entry(name, value, filename);
    const at = this.#entries.findIndex(([key]) => key === entry[0]);
    if (at < 0) {
      this.#entries.push(entry);
    } else {
      this.#entries = this.#entries.filter(([key], i) => i <= at || key !== entry[0]);
      this.#entries[at] = entry;
    }
  }

  // By index and not over a copy, so that an iteration sees changes made under it.
  *entries() {
    for (let i = 0; i < this.#entries.length; i++) yield [...this.#entries[i]];
  }

  *keys() {
    for (let i = 0; i < this.#entries.length; i++) yield this.#entries[i][0];
  }

  *values() {
    for (let i = 0; i < this.#entries.length; i++) yield this.#entries[i][1];
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  forEach(callback, thisArg = undefined) {
    for (const [name, value] of this.entries()) Reflect.apply(callback, thisArg, [value, name, this]);
  }

  get [Symbol.toStringTag]() {
    return "FormData";
  }

  [Symbol.for("Deno.privateCustomInspect")](inspect, options) {
    return `FormData ${inspect(this.#entries, options)}`;
  }

  static _is(value) {
    return typeof value === "object" && value !== null && #entries in value;
  }
}
const { _is: isFormData } = FormData;
delete FormData._is;

const escapeName = (name) => name.replace(/\r?\n|\r/g, "%0D%0A").replace(/"/g, "%22");

// multipart/form-data (RFC 7578), as https://html.spec.whatwg.org/#multipart-form-data encodes names.
function formDataToBlob(form) {
  const crypto = core.loadExtScript("ext:skerry/50_crypto.js").crypto();
  const boundary = `----skerry${crypto.randomUUID().replaceAll("-", "")}`;
  const parts = [];
  for (const [name, value] of form) {
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${escapeName(name)}"`;
    if (typeof value === "string") {
      parts.push(`${head}\r\n\r\n${value.replace(/\r?\n|\r/g, "\r\n")}\r\n`);
    } else {
      const type = value.type || "application/octet-stream";
      parts.push(`${head}; filename="${escapeName(value.name)}"\r\nContent-Type: ${type}\r\n\r\n`, value, "\r\n");
    }
  }
  parts.push(`--${boundary}--\r\n`);
  return new Blob(parts, { type: `multipart/form-data; boundary=${boundary}` });
}

function parseFormData(contentType, bytes) {
  const type = (contentType ?? "").toLowerCase();
  if (type.startsWith("application/x-www-form-urlencoded")) {
    const form = new FormData();
    for (const [name, value] of new URLSearchParams(core.decode(bytes))) form.append(name, value);
    return form;
  }
  const boundary = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType ?? "");
  if (!type.startsWith("multipart/form-data") || boundary === null) {
    throw new TypeError(`formData(): Content-Type ${JSON.stringify(contentType)} is neither urlencoded nor multipart with a boundary`);
  }
  return parseMultipart(bytes, boundary[1] ?? boundary[2]);
}

function indexOf(bytes, wanted, from) {
  outer: for (let i = bytes.indexOf(wanted[0], from); i >= 0; i = bytes.indexOf(wanted[0], i + 1)) {
    for (let k = 1; k < wanted.length; k++) if (bytes[i + k] !== wanted[k]) continue outer;
    return i;
  }
  return -1;
}

// A parameter of Content-Disposition, quoted or not.
function parameter(head, name) {
  const found = new RegExp(`^content-disposition:.*?;\\s*${name}=(?:"([^"]*)"|([^;\\s]*))`, "im").exec(head);
  return found?.[1] ?? found?.[2];
}

function parseMultipart(bytes, boundary) {
  const bad = () => new TypeError("formData(): the multipart body is malformed");
  const form = new FormData();
  const open = core.encode(`--${boundary}`);
  const delimiter = core.encode(`\r\n--${boundary}`);
  const blank = core.encode("\r\n\r\n");
  let at = indexOf(bytes, open, 0);
  if (at < 0) throw bad();
  at += open.length;
  for (;;) {
    if (bytes[at] === 0x2d && bytes[at + 1] === 0x2d) return form;
    if (bytes[at] !== 0x0d || bytes[at + 1] !== 0x0a) throw bad();
    const headEnd = indexOf(bytes, blank, at);
    if (headEnd < 0) throw bad();
    const head = core.decode(bytes.subarray(at, headEnd));
    const end = indexOf(bytes, delimiter, headEnd + 2);
    if (end < 0) throw bad();
    const content = bytes.slice(Math.min(headEnd + 4, end), end);
    const name = parameter(head, "name");
    if (name === undefined) throw bad();
    const decoded = (text) => text.replace(/%22/g, '"').replace(/%0D%0A/gi, "\r\n");
    const filename = parameter(head, "filename");
    if (filename === undefined) {
      form.append(decoded(name), core.decode(content));
    } else {
      const type = /^content-type:\s*(.+)$/im.exec(head)?.[1].trim() ?? "text/plain";
      form.append(decoded(name), new File([content], decoded(filename), { type }));
    }
    at = end + delimiter.length;
  }
}

return { FormData, isFormData, formDataToBlob, parseFormData };
})();
