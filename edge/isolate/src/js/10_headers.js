// Headers (https://fetch.spec.whatwg.org/#headers-class). A list crosses to and from Rust as one flat string,
// "name\nvalue\n...", which needs no serializer: neither names nor values can hold a newline.

(function () {
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const FORBIDDEN_VALUE = /[\0\r\n]|[^\0-\xff]/;

function checkName(name) {
  name = `${name}`;
  if (!TOKEN.test(name)) throw new TypeError(`Invalid header name: ${JSON.stringify(name)}`);
  return name.toLowerCase();
}

function checkValue(name, value) {
  value = `${value}`.replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  if (FORBIDDEN_VALUE.test(value)) throw new TypeError(`Invalid value of header ${JSON.stringify(name)}`);
  return value;
}

class Headers {
  // Flat array: name, value, name, value. `#lazy` makes it on first use.
  #list;
  #lazy;
  #immutable = false;

  constructor(init = undefined) {
    this.#list = [];
    if (init === undefined || init === null) return;
    if (typeof init !== "object") throw new TypeError("Headers: init must be an object, a list of pairs or Headers");
    if (#list in init) {
      this.#list = init.#items().slice();
    } else if (typeof init[Symbol.iterator] === "function") {
      for (const pair of init) {
        const [name, value, ...rest] = pair;
        if (rest.length || value === undefined) throw new TypeError("Headers: each entry must be a [name, value] pair");
        this.append(name, value);
      }
    } else {
      for (const name of Reflect.ownKeys(init)) this.append(name, init[name]);
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
    return this.#items();
  }

  append(name, value) {
    const list = this.#mutable();
    name = checkName(name);
    list.push(name, checkValue(name, value));
  }

  delete(name) {
    const list = this.#mutable();
    name = checkName(name);
    for (let i = list.length - 2; i >= 0; i -= 2) if (list[i] === name) list.splice(i, 2);
  }

  get(name) {
    name = checkName(name);
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

  has(name) {
    return this.get(name) !== null;
  }

  set(name, value) {
    const list = this.#mutable();
    name = checkName(name);
    value = checkValue(name, value);
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
  #sorted() {
    const list = this.#items();
    const names = [...new Set(list.filter((_, i) => i % 2 === 0))].sort();
    const entries = [];
    for (const name of names) {
      if (name === "set-cookie") for (const cookie of this.getSetCookie()) entries.push([name, cookie]);
      else entries.push([name, this.get(name)]);
    }
    return entries;
  }

  *entries() {
    yield* this.#sorted();
  }

  *keys() {
    for (const [name] of this.#sorted()) yield name;
  }

  *values() {
    for (const [, value] of this.#sorted()) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  forEach(callback, thisArg = undefined) {
    for (const [name, value] of this.#sorted()) callback.call(thisArg, value, name, this);
  }

  get [Symbol.toStringTag]() {
    return "Headers";
  }

  // Headers whose flat form is fetched when first looked at.
  static _lazy(flat, immutable) {
    const headers = new Headers();
    headers.#lazy = flat;
    headers.#immutable = immutable;
    return headers;
  }

  // The flat form. Headers that nobody touched give it without ever becoming a list.
  static _flat(headers) {
    if (headers.#lazy !== undefined) return headers.#lazy();
    return headers.#list.join("\n");
  }

  static _setIfAbsent(headers, name, value) {
    const list = headers.#items();
    for (let i = 0; i < list.length; i += 2) if (list[i] === name) return;
    list.push(name, value);
  }

  static _freeze(headers) {
    headers.#immutable = true;
  }
}

const { _lazy: lazyHeaders, _flat: flatHeaders, _setIfAbsent: setIfAbsent, _freeze: freezeHeaders } = Headers;
for (const hidden of ["_lazy", "_flat", "_setIfAbsent", "_freeze"]) delete Headers[hidden];

return { Headers, lazyHeaders, flatHeaders, setIfAbsent, freezeHeaders };
})();
