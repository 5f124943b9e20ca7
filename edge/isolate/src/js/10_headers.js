// Headers (https://fetch.spec.whatwg.org/#headers-class). A list crosses to and from Rust as one flat string,
// "name\nvalue\n...", which needs no serializer: neither names nor values can hold a newline.

(function () {
"use strict";
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const FORBIDDEN_VALUE = /[\0\r\n]|[^\0-\xff]/;
const MAX_KNOWN_NAMES = 512;
const CUSTOM_INSPECT = Symbol.for("Deno.privateCustomInspect");
const IteratorPrototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));

// Names that passed the check before, with their lower case: a function uses the same few again and again.
const knownNames = new Map();

function checkName(name) {
  const known = knownNames.get(name);
  if (known !== undefined) return known;
  name = `${name}`;
  if (!TOKEN.test(name)) throw new TypeError(`Invalid header name: ${JSON.stringify(name)}`);
  const lower = name.toLowerCase();
  if (knownNames.size < MAX_KNOWN_NAMES && name.length <= 64) knownNames.set(name, lower);
  return lower;
}

const isSpace = (code) => code === 0x20 || code === 0x09 || code === 0x0a || code === 0x0d;

function checkValue(name, value) {
  value = `${value}`;
  if (isSpace(value.charCodeAt(0)) || isSpace(value.charCodeAt(value.length - 1))) {
    let start = 0;
    let end = value.length;
    while (start < end && isSpace(value.charCodeAt(start))) start++;
    while (end > start && isSpace(value.charCodeAt(end - 1))) end--;
    value = value.slice(start, end);
  }
  if (FORBIDDEN_VALUE.test(value)) throw new TypeError(`Invalid value of header ${JSON.stringify(name)}`);
  return value;
}

function codingIn(list) {
  for (let i = 0; i < list.length; i += 2) {
    if (list[i] === "content-encoding") {
      let coding = list[i + 1];
      for (i += 2; i < list.length; i += 2) if (list[i] === "content-encoding") coding += `,${list[i + 1]}`;
      return coding.toLowerCase();
    }
  }
  return "";
}

const codingOfFlat = (flat) => flat.includes("content-encoding") ? codingIn(flat.split("\n")) : "";

class Headers {
  // Flat array: name, value, name, value. `#lazy` makes it on first use.
  #list;
  #lazy;
  // Looks up one field in what `#lazy` would make, by its lower-case name, so many times before all are had.
  #one;
  #looks = 4;
  // The incoming request whose fields `#lazy` would make, all of them and no others; 0 for none.
  #of = 0;
  // Fields that may yet be written behind what `#lazy` makes.
  #room = 8;
  // The Content-Encoding that `#lazy` holds, where it is known.
  #lazyCoding;
  #immutable = false;
  // The pairs in the order of iteration, until the next change.
  #sorted = null;

  constructor(init = undefined) {
    this.#list = [];
    if (init === undefined) return;
    if (init === null || (typeof init !== "object" && typeof init !== "function")) {
      throw new TypeError("Headers: init must be an object, a list of pairs or Headers");
    }
    if (#list in init) {
      this.#list = init.#items().slice();
    } else if (init[Symbol.iterator] !== undefined && init[Symbol.iterator] !== null) {
      for (const entry of init) {
        const pair = typeof entry === "object" && entry !== null ? [...entry] : [];
        if (pair.length !== 2) throw new TypeError("Headers: each entry must be a [name, value] pair");
        this.append(pair[0], pair[1]);
      }
    } else {
      const names = Object.keys(init);
      for (let i = 0; i < names.length; i++) this.append(names[i], init[names[i]]);
    }
  }

  #items() {
    if (this.#lazy !== undefined) {
      const flat = this.#lazy();
      this.#lazy = undefined;
      this.#list = flat === "" ? [] : flat.split("\n");
    }
    return this.#list;
  }

  #mutable() {
    if (this.#immutable) throw new TypeError("These headers are immutable: copy them with new Headers(headers) first");
    this.#sorted = null;
    return this.#items();
  }

  append(name, value) {
    name = checkName(name);
    value = checkValue(name, value);
    if (this.#extends) this.#extend(this.#lazy(), name, value);
    else this.#mutable().push(name, value);
  }

  // Whether a field may be written behind the flat form, which most copies of another message's headers need never leave.
  get #extends() {
    return this.#lazy !== undefined && !this.#immutable && this.#room > 0;
  }

  #extend(flat, name, value) {
    this.#room--;
    const longer = flat === "" ? `${name}\n${value}` : `${flat}\n${name}\n${value}`;
    this.#lazy = () => longer;
    this.#one = undefined;
    this.#of = 0;
    if (name === "content-encoding") this.#lazyCoding = undefined;
    this.#sorted = null;
  }

  delete(name) {
    name = checkName(name);
    const list = this.#mutable();
    for (let i = list.length - 2; i >= 0; i -= 2) if (list[i] === name) list.splice(i, 2);
  }

  get(name) {
    return this.#find(checkName(name));
  }

  has(name) {
    return this.#find(checkName(name)) !== null;
  }

  #find(name) {
    if (this.#lazy !== undefined && this.#one !== undefined && this.#looks > 0) {
      this.#looks--;
      return this.#one(name);
    }
    const list = this.#items();
    let found = null;
    for (let i = 0; i < list.length; i += 2) {
      if (list[i] === name) found = found === null ? list[i + 1] : `${found}, ${list[i + 1]}`;
    }
    return found;
  }

  getAll(name) {
    if (checkName(name) !== "set-cookie") throw new TypeError('getAll() is for "Set-Cookie" only');
    return this.getSetCookie();
  }

  getSetCookie() {
    const list = this.#items();
    const found = [];
    for (let i = 0; i < list.length; i += 2) if (list[i] === "set-cookie") found.push(list[i + 1]);
    return found;
  }

  set(name, value) {
    name = checkName(name);
    value = checkValue(name, value);
    if (this.#extends) {
      const flat = this.#lazy();
      // A name that looks like a value of another field is taken for one that is there.
      if (!`\n${flat}\n`.includes(`\n${name}\n`)) return this.#extend(flat, name, value);
    }
    const list = this.#mutable();
    for (let i = 0; i < list.length; i += 2) {
      if (list[i] === name) {
        list[i + 1] = value;
        for (let k = list.length - 2; k > i; k -= 2) if (list[k] === name) list.splice(k, 2);
        return;
      }
    }
    list.push(name, value);
  }

  // Sorted and combined, but each Set-Cookie on its own (fetch section 2.2.2, "sort and combine").
  #pairs() {
    if (this.#sorted !== null) return this.#sorted;
    const list = this.#items();
    const names = [...new Set(list.filter((_, i) => i % 2 === 0))].sort();
    const pairs = [];
    for (const name of names) {
      if (name === "set-cookie") for (const cookie of this.getSetCookie()) pairs.push([name, cookie]);
      else pairs.push([name, this.get(name)]);
    }
    return (this.#sorted = pairs);
  }

  entries() {
    return new HeadersIterator(this, 2);
  }

  keys() {
    return new HeadersIterator(this, 0);
  }

  values() {
    return new HeadersIterator(this, 1);
  }

  forEach(callback, thisArg = undefined) {
    if (typeof callback !== "function") throw new TypeError("Headers.forEach(): the callback must be a function");
    let pairs = this.#pairs();
    for (let i = 0; i < pairs.length; i++, pairs = this.#pairs()) {
      Reflect.apply(callback, thisArg, [pairs[i][1], pairs[i][0], this]);
    }
  }

  get [Symbol.toStringTag]() {
    return "Headers";
  }

  [CUSTOM_INSPECT](inspect, options) {
    return `Headers ${inspect(Object.fromEntries(this.#pairs()), options)}`;
  }

  // The pair at a place of the iteration, as it is now: an iteration sees changes made under it.
  static _pair(headers, at) {
    return headers.#pairs()[at];
  }

  // Headers whose flat form is fetched when first looked at; `one`, when there is one, finds a single field without it.
  static _lazy(flat, immutable, coding = undefined, one = undefined, of = 0) {
    const headers = new Headers();
    headers.#lazy = flat;
    headers.#one = one;
    headers.#of = of;
    headers.#lazyCoding = coding;
    headers.#immutable = immutable;
    return headers;
  }

  // A copy that may be changed; one of untouched lazy headers stays lazy.
  static _copy(headers) {
    const copy = new Headers();
    copy.#lazy = headers.#lazy;
    copy.#one = headers.#one;
    copy.#of = headers.#of;
    copy.#lazyCoding = headers.#lazyCoding;
    if (headers.#lazy === undefined) copy.#list = headers.#list.slice();
    return copy;
  }

  // The incoming request that has these very fields, or 0.
  static _of(headers) {
    return headers.#lazy === undefined ? 0 : headers.#of;
  }

  // The flat form. Headers that nobody touched give it without ever becoming a list.
  static _flat(headers) {
    if (headers.#lazy !== undefined) return headers.#lazy();
    return headers.#list.join("\n");
  }

  // The Content-Encoding, or "". Asked of every response, so headers that nobody touched stay as they are.
  static _coding(headers) {
    const lazy = headers.#lazy;
    return lazy === undefined ? codingIn(headers.#list) : headers.#lazyCoding ??= codingOfFlat(lazy());
  }

  static _setIfAbsent(headers, name, value) {
    const list = headers.#items();
    for (let i = 0; i < list.length; i += 2) if (list[i] === name) return;
    headers.#sorted = null;
    list.push(name, value);
  }

  static _freeze(headers) {
    headers.#immutable = true;
  }

  static _is(value) {
    return typeof value === "object" && value !== null && #list in value;
  }
}
Object.defineProperty(Headers.prototype, Symbol.iterator, {
  value: Headers.prototype.entries,
  writable: true,
  enumerable: false,
  configurable: true,
});

const {
  _pair: pairAt, _lazy: lazyHeaders, _copy: copyHeaders, _of: ownerOf, _flat: flatHeaders, _coding: codingOf,
  _setIfAbsent: setIfAbsent, _freeze: freezeHeaders, _is: isHeaders,
} = Headers;
for (const name of Object.getOwnPropertyNames(Headers)) if (name.startsWith("_")) delete Headers[name];

class HeadersIterator {
  #headers;
  #part;
  #at = 0;

  constructor(headers, part) {
    this.#headers = headers;
    this.#part = part;
  }

  next() {
    const pair = pairAt(this.#headers, this.#at);
    if (pair === undefined) return { value: undefined, done: true };
    this.#at++;
    return { value: this.#part === 2 ? [pair[0], pair[1]] : pair[this.#part], done: false };
  }

  get [Symbol.toStringTag]() {
    return "Headers Iterator";
  }
}
Object.setPrototypeOf(HeadersIterator.prototype, IteratorPrototype);
delete HeadersIterator.prototype.constructor;

return {
  Headers, isHeaders, lazyHeaders, copyHeaders, ownerOf, flatHeaders, codingOf, codingOfFlat, setIfAbsent, freezeHeaders,
};
})();
