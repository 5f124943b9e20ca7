// The Cache API as Workers has it (https://developers.cloudflare.com/workers/runtime-apis/cache/): caches that belong to
// the function, in the store of its PoP.

(function () {
"use strict";
const { core } = __bootstrap;
const { op_cache } = core.ops;
const { outgoing } = core.loadExtScript("ext:skerry/20_body.js");
const {
  Request, isRequest, isResponse, responseBody, responseStatus, responseFields, responseCoding, fieldsOf, fetched,
} = core.loadExtScript("ext:skerry/30_messages.js");

// Who has it may make what only the platform makes.
const MAKER = Symbol("maker");
const MAX_NAME = 256;

function onlyFor(maker) {
  if (maker !== MAKER) throw new TypeError("Illegal constructor");
}

function currentInvocation(what) {
  const id = core.getAsyncContext();
  if (typeof id !== "number") throw new TypeError(`${what} works only while a request is handled`);
  return id;
}

// A string or URL stands for a GET request of it. The fragment is no part of a key.
function keyed(input) {
  const request = isRequest(input) ? input : new Request(input);
  const url = request.url;
  const hash = url.indexOf("#");
  return { request, method: request.method, url: hash < 0 ? url : url.slice(0, hash) };
}

function isForbiddenMethod(method, options) {
  return method !== "GET" && !options?.ignoreMethod;
}

class Cache {
  #name;

  constructor(maker, name) {
    onlyFor(maker);
    this.#name = name;
  }

  // The fresh response that is stored for a request, or undefined.
  async match(input, options = undefined) {
    const name = this.#name;
    const id = currentInvocation("cache.match()");
    const { request, method, url } = keyed(input);
    if (isForbiddenMethod(method, options)) return undefined;
    const [status, fields, body] = await op_cache(id, `GET ${url}`, name, fieldsOf(request), 0, "", null, 0);
    return status === 0 ? undefined : fetched(status, fields, body, url, false, undefined);
  }

  // Resolves to undefined, whether the response may be stored or not.
  async put(input, response) {
    const name = this.#name;
    const id = currentInvocation("cache.put()");
    if (!isResponse(response)) throw new TypeError("cache.put(): the second argument must be a Response");
    const { request, method, url } = keyed(input);
    if (method !== "GET") throw new TypeError(`cache.put(): the request must be a GET, not a ${method}`);
    const status = responseStatus(response);
    if (status === 206) throw new TypeError("cache.put(): a response with status 206 is a part: only a whole one can be stored");
    if (status === 0) throw new TypeError("cache.put(): Response.error() cannot be stored");
    const vary = response.headers.get("vary");
    if (vary !== null && vary.split(",").some((name) => name.trim() === "*")) {
      throw new TypeError("cache.put(): no request would ever match a response with Vary: *");
    }
    const body = responseBody(response);
    const [bytes, bodyId] = body === null ? [null, 0] : outgoing(body, responseCoding(response), id);
    await op_cache(id, `PUT ${url}`, name, fieldsOf(request), status, responseFields(response), bytes, bodyId);
  }

  // Whether there was one.
  async delete(input, options = undefined) {
    const name = this.#name;
    const id = currentInvocation("cache.delete()");
    const { request, method, url } = keyed(input);
    if (isForbiddenMethod(method, options)) return false;
    const [status] = await op_cache(id, `DELETE ${url}`, name, fieldsOf(request), 0, "", null, 0);
    return status !== 0;
  }

  get [Symbol.toStringTag]() {
    return "Cache";
  }
}

class CacheStorage {
  #default;

  constructor(maker) {
    onlyFor(maker);
    this.#default = new Cache(MAKER, "default");
  }

  get default() {
    return this.#default;
  }

  async open(name) {
    if (arguments.length === 0) throw new TypeError("caches.open(): a name is needed");
    name = `${name}`;
    if (name.length > MAX_NAME) throw new TypeError(`caches.open(): a name has at most ${MAX_NAME} characters`);
    return new Cache(MAKER, `named ${name}`);
  }

  get [Symbol.toStringTag]() {
    return "CacheStorage";
  }
}

return { Cache, CacheStorage, caches: new CacheStorage(MAKER) };
})();
