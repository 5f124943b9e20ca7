// Lists everything that a function can reach by name: own properties and prototypes, from the global object and from
// what a handler is given, each object under the path it is found by first. One line each: path, then kind.

export default {
  async fetch(request, env, ctx) {
    const edge = await import("skerry:edge");
    const generators = [function* () {}, async function () {}, async function* () {}];
    const roots = {
      globalThis, request, env, ctx, edge, "import.meta": import.meta,
      "(generator function)": generators[0], "(async function)": generators[1], "(async generator function)": generators[2],
      "(generator)": generators[0](), "(async generator)": generators[2](),
      "(array iterator)": [][Symbol.iterator](), "(map iterator)": new Map().keys(), "(set iterator)": new Set().keys(),
      "(string iterator)": ""[Symbol.iterator](), "(regexp iterator)": "".matchAll(/a/g),
      "(iterator helper)": Iterator.from([]).map(String), "(headers iterator)": new Headers().keys(),
      "(search iterator)": new URLSearchParams().keys(), "(form iterator)": new FormData().keys(),
      "(stream iterator)": new ReadableStream()[Symbol.asyncIterator](), "(rate limiter)": env.LIMITER,
    };
    const seen = new Map();
    const lines = new Set();
    const queue = [];
    const visit = (path, value) => {
      if ((typeof value !== "object" && typeof value !== "function") || value === null || seen.has(value)) return;
      seen.set(value, path);
      queue.push([path, value]);
    };
    const kind = (value) => typeof value === "function" ? `function/${value.length}` : value === null ? "null" : typeof value;
    for (const [name, root] of Object.entries(roots)) visit(name, root);
    while (queue.length > 0) {
      const [path, object] = queue.shift();
      const at = path === "globalThis" ? "" : `${path}.`;
      const keys = Reflect.ownKeys(object).sort((a, b) => String(a) < String(b) ? -1 : 1);
      for (const key of keys) {
        const name = at + (typeof key === "symbol" ? `[${key.description}]` : key);
        const property = Object.getOwnPropertyDescriptor(object, key);
        const marks = (property.enumerable ? " enumerable" : "") + (property.configurable ? "" : " fixed") +
          (property.writable === false ? " constant" : "");
        // Said by every function, and of no interest.
        if (typeof object === "function" && ["length", "name", "arguments", "caller"].includes(key)) continue;
        if ("value" in property) {
          lines.add(`${name} ${kind(property.value)}${marks}`);
          visit(name, property.value);
        } else {
          lines.add(`${name} ${property.get ? "get" : ""}${property.set ? "set" : ""}${marks}`);
          visit(`${name} (get)`, property.get);
          visit(`${name} (set)`, property.set);
        }
      }
      const prototype = Object.getPrototypeOf(object);
      if (prototype !== null && !seen.has(prototype)) visit(`${path}.__proto__`, prototype);
    }
    return new Response([...lines].sort().join("\n") + "\n");
  },
};
