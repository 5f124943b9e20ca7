// WebCrypto, with bounds. The crate computes on other threads, where no limit on processor time reaches, so the work of
// one call is bounded here by what it asks for, and so is the number of calls at once.

(function () {
"use strict";
const { core, primordials } = __bootstrap;
const { op_begin, op_done, op_md5, op_timing_safe_equal } = core.ops;
const {
  ArrayBufferIsView, ArrayPrototypePush, ArrayPrototypeShift, FunctionPrototypeApply, MathCeil, NumberIsNaN,
  ObjectDefineProperty, RegExpPrototypeTest, SafeRegExp, StringPrototypeToUpperCase, TypeError,
  Uint8Array, uncurryThis,
} = primordials;
const { DOMException } = core.loadExtScript("ext:deno_web/01_dom_exception.js");
const webcrypto = core.loadExtScript("ext:deno_crypto/00_crypto.js");
const { Crypto, CryptoKey, SubtleCrypto } = webcrypto;

// As in Workers.
const MAX_ITERATIONS = 100_000;
// PBKDF2 does its iterations for each block of output.
const MAX_BLOCKS = 4;
const MAX_RSA_BITS = 4_096;
const MAX_KEY_BITS = 16_384;
// Password hashing made to be slow, signatures of a second and more, and digests of any length.
const REFUSED = new SafeRegExp(/^(?:ARGON2|SLH-DSA|CSHAKE|TURBOSHAKE|KT128|KT256|KANGAROO)/);
const MAX_RUNNING = 4;

const FIELDS = [
  "name", "hash", "salt", "iterations", "info", "public", "length", "modulusLength", "publicExponent", "namedCurve", "iv",
  "counter", "additionalData", "tagLength", "label", "saltLength", "context",
];
const HASH_BITS = {
  __proto__: null, "SHA-1": 160, "SHA-256": 256, "SHA-384": 384, "SHA-512": 512, "SHA3-256": 256, "SHA3-384": 384,
  "SHA3-512": 512,
};

function refuse(name, message) {
  throw new DOMException(message, name);
}

// An algorithm as a plain object of its own, read once: it cannot say one thing here and another to the crate.
function plain(algorithm) {
  if (typeof algorithm !== "object" || algorithm === null) {
    return checked({ __proto__: null, name: `${algorithm}` });
  }
  const copy = { __proto__: null };
  for (let i = 0; i < FIELDS.length; i++) {
    const value = algorithm[FIELDS[i]];
    if (value !== undefined) copy[FIELDS[i]] = value;
  }
  if (copy.name === undefined) throw new TypeError("The algorithm has no name");
  copy.name = `${copy.name}`;
  if (copy.hash !== undefined) {
    const { hash } = copy;
    copy.hash = `${typeof hash === "object" && hash !== null ? hash.name : hash}`;
  }
  for (const name of ["iterations", "length", "modulusLength"]) if (copy[name] !== undefined) copy[name] = +copy[name];
  return checked(copy);
}

function checked(algorithm) {
  const name = StringPrototypeToUpperCase(algorithm.name);
  if (RegExpPrototypeTest(REFUSED, name)) {
    refuse("NotSupportedError", `${algorithm.name} is not available here: its cost has no bound`);
  }
  if (algorithm.iterations > MAX_ITERATIONS) {
    refuse("NotSupportedError", `PBKDF2: ${algorithm.iterations} iterations are above the limit of ${MAX_ITERATIONS}`);
  }
  if (algorithm.modulusLength > MAX_RSA_BITS) {
    refuse("NotSupportedError", `RSA: a modulus of ${algorithm.modulusLength} bits is above the limit of ${MAX_RSA_BITS}`);
  }
  if (algorithm.publicExponent !== undefined && !usualExponent(algorithm.publicExponent)) {
    refuse("NotSupportedError", "RSA: the public exponent has to be 3 or 65537");
  }
  if (algorithm.length > MAX_KEY_BITS) {
    refuse("NotSupportedError", `A key of ${algorithm.length} bits is above the limit of ${MAX_KEY_BITS}`);
  }
  return algorithm;
}

function usualExponent(exponent) {
  let value = 0;
  for (let i = 0; i < exponent.length; i++) value = value * 256 + exponent[i];
  return value === 3 || value === 65537;
}

function checkDerived(algorithm, bits) {
  if (StringPrototypeToUpperCase(algorithm.name) !== "PBKDF2" || typeof bits !== "number" || NumberIsNaN(bits)) return;
  const perBlock = HASH_BITS[StringPrototypeToUpperCase(`${algorithm.hash}`)] ?? 160;
  if (MathCeil(bits / perBlock) * algorithm.iterations > MAX_ITERATIONS * MAX_BLOCKS) {
    refuse("NotSupportedError", `PBKDF2: ${bits} bits at ${algorithm.iterations} iterations are above the limit: ` +
      `${MAX_ITERATIONS} iterations for up to ${MAX_BLOCKS * perBlock} bits`);
  }
}

const keyAlgorithm = uncurryThis(Object.getOwnPropertyDescriptor(CryptoKey.prototype, "algorithm").get);

// A key as it was imported, whatever its format was: not one that takes seconds to use.
function bounded(key) {
  if (keyAlgorithm(key).modulusLength > MAX_RSA_BITS) {
    refuse("NotSupportedError", `RSA: the key has ${keyAlgorithm(key).modulusLength} bits, the limit is ${MAX_RSA_BITS}`);
  }
  return key;
}

let running = 0;
const waiting = [];

// At most so many at once: the others wait, and what they were given is copied before it can change.
async function limited(subtle, method, args) {
  const invocation = core.getAsyncContext();
  if (typeof invocation !== "number") return await inTurn(subtle, method, args);
  op_begin(invocation);
  try {
    return await inTurn(subtle, method, args);
  } finally {
    op_done(invocation);
  }
}

async function inTurn(subtle, method, args) {
  if (running >= MAX_RUNNING) {
    for (let i = 0; i < args.length; i++) args[i] = copied(args[i]);
    await new Promise((resolve) => ArrayPrototypePush(waiting, resolve));
  } else {
    running++;
  }
  try {
    return await FunctionPrototypeApply(method, subtle, args);
  } finally {
    // The place goes to the one that waited longest.
    if (waiting.length > 0) ArrayPrototypeShift(waiting)();
    else running--;
  }
}

function copied(value) {
  if (ArrayBufferIsView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice();
  return core.isAnyArrayBuffer(value) ? value.slice(0) : value;
}

const native = { __proto__: null };
for (const name of [
  "digest", "encrypt", "decrypt", "sign", "verify", "deriveBits", "deriveKey", "importKey", "exportKey", "generateKey",
  "wrapKey", "unwrapKey",
]) {
  native[name] = SubtleCrypto.prototype[name];
}

const members = {
  async digest(algorithm, data) {
    algorithm = plain(algorithm);
    if (StringPrototypeToUpperCase(algorithm.name) === "MD5") return op_md5(data).buffer;
    return await limited(this, native.digest, [algorithm, data]);
  },
  async encrypt(algorithm, key, data) {
    return await limited(this, native.encrypt, [plain(algorithm), key, data]);
  },
  async decrypt(algorithm, key, data) {
    return await limited(this, native.decrypt, [plain(algorithm), key, data]);
  },
  async sign(algorithm, key, data) {
    return await limited(this, native.sign, [plain(algorithm), key, data]);
  },
  async verify(algorithm, key, signature, data) {
    return await limited(this, native.verify, [plain(algorithm), key, signature, data]);
  },
  async deriveBits(algorithm, baseKey, length = null) {
    algorithm = plain(algorithm);
    if (length !== null) length = +length;
    if (length > MAX_KEY_BITS) refuse("OperationError", `deriveBits(): ${length} bits are above the limit of ${MAX_KEY_BITS}`);
    checkDerived(algorithm, length);
    return await limited(this, native.deriveBits, length === null ? [algorithm, baseKey] : [algorithm, baseKey, length]);
  },
  async deriveKey(algorithm, baseKey, derivedKeyType, extractable, keyUsages) {
    algorithm = plain(algorithm);
    derivedKeyType = plain(derivedKeyType);
    // An HMAC key without a length has the block size of its hash.
    checkDerived(algorithm, derivedKeyType.length ?? 1_024);
    return await limited(this, native.deriveKey, [algorithm, baseKey, derivedKeyType, extractable, keyUsages]);
  },
  async importKey(format, keyData, algorithm, extractable, keyUsages) {
    return bounded(await FunctionPrototypeApply(native.importKey, this, [format, keyData, plain(algorithm), extractable, keyUsages]));
  },
  async exportKey(format, key) {
    return await FunctionPrototypeApply(native.exportKey, this, [format, key]);
  },
  async generateKey(algorithm, extractable, keyUsages) {
    return await limited(this, native.generateKey, [plain(algorithm), extractable, keyUsages]);
  },
  async wrapKey(format, key, wrappingKey, wrapAlgorithm) {
    return await limited(this, native.wrapKey, [format, key, wrappingKey, plain(wrapAlgorithm)]);
  },
  async unwrapKey(format, wrappedKey, unwrappingKey, unwrapAlgorithm, unwrappedKeyAlgorithm, extractable, keyUsages) {
    return bounded(await limited(this, native.unwrapKey, [
      format, wrappedKey, unwrappingKey, plain(unwrapAlgorithm), plain(unwrappedKeyAlgorithm), extractable, keyUsages,
    ]));
  },
  // As in Workers: whether two buffers hold the same, in a time that does not tell where they differ.
  timingSafeEqual(a, b) {
    return op_timing_safe_equal(a, b);
  },
};
for (const name of Object.keys(members)) {
  ObjectDefineProperty(members[name], "length", { __proto__: null, value: native[name]?.length ?? 2, configurable: true });
  ObjectDefineProperty(SubtleCrypto.prototype, name, {
    __proto__: null,
    value: members[name],
    writable: true,
    enumerable: true,
    configurable: true,
  });
}
// Drafts that Workers does not have either.
for (const name of ["encapsulateBits", "encapsulateKey", "decapsulateBits", "decapsulateKey", "getPublicKey"]) {
  delete SubtleCrypto.prototype[name];
}
delete SubtleCrypto.supports;

// The crate keeps helpers for its own use on the classes. They would go around the bounds, and `registerSymbols` keeps
// objects of one isolate in a variable of the thread, where the next isolate would find them.
delete core.getCloneableDeserializers().CryptoKey;
for (const name of ["fromCloneData", "importSync", "exportNodeMaterial"]) delete CryptoKey[name];
const makers = [[Crypto, Crypto.create], [SubtleCrypto, SubtleCrypto.create]];
for (const [holder] of makers) delete holder.create;
delete Crypto.registerSymbols;

// Native objects cannot be in a snapshot, so the one `crypto` is made when somebody first asks for it.
let made;
function crypto() {
  if (made === undefined) {
    const lend = (holder, name, value) => ObjectDefineProperty(holder, name, { __proto__: null, value, configurable: true });
    for (let i = 0; i < makers.length; i++) lend(makers[i][0], "create", makers[i][1]);
    lend(Crypto, "registerSymbols", () => false);
    made = webcrypto.crypto;
    for (let i = 0; i < makers.length; i++) delete makers[i][0].create;
    delete Crypto.registerSymbols;
  }
  return made;
}

return { crypto, Crypto, CryptoKey, SubtleCrypto };
})();
