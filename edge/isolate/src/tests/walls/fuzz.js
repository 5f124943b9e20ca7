// Calls one op many times with what no JavaScript of the platform would pass. `seed`, `wanted` and `calls` are given.

(() => {
  let state = seed;
  const random = (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const hostile = new Proxy(function () {}, {
    get(_, key) {
      if (random(2) === 0) throw new Error("no");
      return key === Symbol.toPrimitive ? () => random(100) : hostile;
    },
    getPrototypeOf() {
      throw new RangeError("no");
    },
    ownKeys() {
      return ["a", "a"].slice(random(2));
    },
  });
  const detached = new ArrayBuffer(8);
  const view = new Uint8Array(detached);
  detached.transfer();
  const growing = new ArrayBuffer(8, { maxByteLength: 64 });
  const tracking = new Uint8Array(growing);
  const cyclic = { text: "x" };
  cyclic.self = cyclic;
  const deep = { at: null };
  for (let i = 0, at = deep; i < 3000; i++) at = at.at = {};
  const pool = [
    undefined, null, true, false, 0, -0, 1, -1, NaN, Infinity, -Infinity, 0.5, 255, 256, 65535, 65536, 65537, 65538,
    131072, 2 ** 30, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), 2 ** 32 - 1, 2 ** 32, 2 ** 53, 1e308, 0n, -1n, 2n ** 64n, 2n ** 200n,
    "", "a", "0", "gzip", "utf-8", "SHA-256", "http://a/", "http://[::1]:99999/", "../..", "\0", "\ud800", "\udfff\ud800x",
    "caf\u00e9\u4e2d", "x".repeat(70000), "\u{1f600}".repeat(20000), "a\nb\nc", "content-length\n-1", "%", ":", "(((", "[",
    Symbol("s"), Symbol.iterator, {}, [], [1, 2, 3], new Array(70000), { length: 2 ** 32, 0: 1 }, cyclic, deep, () => {},
    function () {
      throw new Error("called");
    },
    async () => {}, class {}, hostile, new Proxy({}, {}), new Proxy([], {}), new Proxy(new Uint8Array(3), {}),
    new Uint8Array(), new Uint8Array(3), new Uint8Array(70000), new Uint16Array(5).subarray(1), new Float64Array(4),
    new BigInt64Array(2), new DataView(new ArrayBuffer(9), 1), new ArrayBuffer(0), new ArrayBuffer(16), detached, view, growing,
    tracking, new Date(NaN), new Date(0), /x/g, new Map([[1, hostile]]), new Set([cyclic]), new WeakMap(), new Error("e"),
    Object.assign(new Error(), { stack: 5, cause: hostile }), Promise.resolve(1), new Promise(() => {}), globalThis,
    Object.create(null), Object.freeze({ a: 1 }), new String("s"), new Number(1), Object(1n), Object(Symbol()),
    {
      get name() {
        throw new Error("get");
      },
    },
    {
      [Symbol.toPrimitive]() {
        growing.resize(random(64));
        return "x";
      },
    },
    { toString: () => hostile, valueOf: () => ({}) }, { name: "AES-GCM", length: 2 ** 40, iv: view }, { hash: cyclic },
    (function () {
      return arguments;
    })(1, 2),
  ];
  const { ops } = Deno.core;
  const targets = [];
  for (const [name, op] of Object.entries(ops)) {
    targets.push([name, op]);
    if (!Object.hasOwn(op, "prototype")) continue;
    const holders = [[op, `${name} static`], [op.prototype, name]];
    for (const [holder, label] of holders) {
      for (const key of Reflect.ownKeys(holder)) {
        const property = Object.getOwnPropertyDescriptor(holder, key);
        for (const value of [property.value, property.get, property.set]) {
          if (typeof value === "function" && key !== "constructor") targets.push([`${label}.${String(key)}`, value]);
        }
      }
    }
  }
  for (const op of __skerry.bareOps) targets.push([`${op.name} bare`, op]);
  if (wanted === "") return targets.map(([name]) => name).join("\n");
  for (const [name, op] of targets) {
    if (name !== wanted) continue;
    const made = [];
    for (let call = 0; call < calls; call++) {
      const args = Array.from({ length: random(op.length + 3) }, () => {
        const chosen = made.length > 0 && random(8) === 0 ? made[random(made.length)] : pool[random(pool.length)];
        return chosen;
      });
      const self = random(3) === 0 ? pool[random(pool.length)] : undefined;
      try {
        const result = random(10) === 0 ? Reflect.construct(op, args) : Reflect.apply(op, self, args);
        if (made.length < 20) made.push(result);
        if (result instanceof Promise) result.catch(() => {});
      } catch {
        // It refused: that is what it should do.
      }
    }
  }
  return "called";
})();
