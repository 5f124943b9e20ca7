// Comes first: repairs what the crates leave open, and closes ways around the limits that V8 itself offers.

(function () {
"use strict";
const { core, primordials } = __bootstrap;
const { op_wasm_room } = core.ops;
const {
  ArrayBufferPrototypeGetByteLength, FunctionPrototypeToString, ObjectDefineProperty, ObjectIs,
  Number, PromisePrototypeThen, PromiseResolve, RangeError, ReflectConstruct, TypedArrayPrototypeGetBuffer, TypedArrayPrototypeGetByteOffset,
  TypedArrayPrototypeGetLength, TypedArrayPrototypeGetSymbolToStringTag, TypedArrayPrototypeSet, TypedArrayPrototypeSort,
  TypedArrayPrototypeToSorted, uncurryThis,
} = primordials;

// The stubs of async ops call `op.call(...)`, so whoever replaced Function.prototype.call would be handed the bare op.
// An own `call` on each bare op takes the name out of reach. It is found the way that an intruder would.
function protectOps() {
  const bareOps = [];
  const { call } = Function.prototype;
  const protect = (stub) => {
    if (typeof stub !== "function" || !FunctionPrototypeToString(stub).startsWith("function async_op_")) return;
    let bare;
    Function.prototype.call = function () {
      bare = this;
      return 0;
    };
    try {
      stub();
    } finally {
      Function.prototype.call = call;
    }
    if (bare === undefined) return;
    ObjectDefineProperty(bare, "call", { __proto__: null, value: call });
    bareOps.push(bare);
  };
  for (const op of Object.values(core.ops)) {
    protect(op);
    if (typeof op !== "function" || op.prototype === undefined) continue;
    for (const holder of [op, op.prototype]) {
      for (const name of Object.getOwnPropertyNames(holder)) {
        protect(Object.getOwnPropertyDescriptor(holder, name).value);
      }
    }
  }
  return bareOps;
}
const bareOps = protectOps();

// Errors of ops come with a class name, from which these make the DOMException.
const { DOMException } = core.loadExtScript("ext:deno_web/01_dom_exception.js");
for (const name of [
  "AbortError", "ConstraintError", "DataCloneError", "DataError", "EncodingError", "HierarchyRequestError",
  "InUseAttributeError", "IndexSizeError", "InvalidAccessError", "InvalidCharacterError", "InvalidModificationError",
  "InvalidNodeTypeError", "InvalidStateError", "NamespaceError", "NetworkError", "NoModificationAllowedError",
  "NotAllowedError", "NotFoundError", "NotReadableError", "NotSupportedError", "OperationError", "QuotaExceededError",
  "ReadOnlyError", "SecurityError", "SyntaxError", "TimeoutError", "TransactionInactiveError", "TypeMismatchError",
  "URLMismatchError", "UnknownError", "VersionError", "WrongDocumentError",
]) {
  core.registerErrorBuilder(`DOMException${name}`, (message) => new DOMException(message, name));
}

// The crate's queueMicrotask reports what a callback throws, but looks for V8's own below its global, where none is in an
// isolate from a snapshot. Here it finds this one, once and for all. The crates' streams use it, too.
function provideQueueMicrotask() {
  let found = false;
  ObjectDefineProperty(Object.prototype, "queueMicrotask", {
    __proto__: null,
    value(task) {
      if (found) PromisePrototypeThen(PromiseResolve(undefined), task);
    },
    writable: true,
    configurable: true,
  });
  primordials.queueMicrotask(() => {});
  delete Object.prototype.queueMicrotask;
  found = true;
}
provideQueueMicrotask();

// V8 sorts a typed array without a comparator in one native call that nothing can interrupt: 4 million numbers take a
// second. Above this many elements, natively sorted runs are merged here, where the limit on processor time holds.
const RUN = 65536;

// In the order of the standard: -0 before 0, NaN last.
function less(a, b) {
  return a < b || (a === b ? a === 0 && ObjectIs(a, -0) && !ObjectIs(b, -0) : a === a && b !== b);
}

const TYPED_ARRAYS = { __proto__: null };
for (const name of [
  "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array",
  "Float16Array", "Float32Array", "Float64Array", "BigInt64Array", "BigUint64Array",
]) {
  if (globalThis[name] !== undefined) TYPED_ARRAYS[name] = globalThis[name];
}

// Merges all[left..middle] and all[middle..right]. `spare` has room for the shorter of the two.
function merge(all, left, middle, right, spare, part) {
  if (!less(all[middle], all[middle - 1])) return;
  if (middle - left <= right - middle) {
    const count = middle - left;
    TypedArrayPrototypeSet(spare, part(left, count));
    for (let a = 0, b = middle, to = left; a < count; to++) {
      all[to] = b < right && less(all[b], spare[a]) ? all[b++] : spare[a++];
    }
  } else {
    const count = right - middle;
    TypedArrayPrototypeSet(spare, part(middle, count));
    for (let a = middle - 1, b = count - 1, to = right - 1; b >= 0; to--) {
      all[to] = a >= left && less(spare[b], all[a]) ? all[a--] : spare[b--];
    }
  }
}

function sortLarge(array, TypedArray) {
  const buffer = TypedArrayPrototypeGetBuffer(array);
  const offset = TypedArrayPrototypeGetByteOffset(array);
  const length = TypedArrayPrototypeGetLength(array);
  const part = (at, count) => new TypedArray(buffer, offset + at * TypedArray.BYTES_PER_ELEMENT, count);
  for (let at = 0; at < length; at += RUN) TypedArrayPrototypeSort(part(at, length - at < RUN ? length - at : RUN));
  const all = part(0, length);
  const spare = new TypedArray((length + 1) >> 1);
  for (let run = RUN; run < length; run *= 2) {
    for (let left = 0; left + run < length; left += 2 * run) {
      merge(all, left, left + run, left + 2 * run < length ? left + 2 * run : length, spare, part);
    }
  }
  return array;
}

// The class of a typed array that has to be sorted here, or undefined.
function tooLarge(value, comparator) {
  if (comparator !== undefined) return undefined;
  const name = TypedArrayPrototypeGetSymbolToStringTag(value);
  if (name === undefined || TypedArrayPrototypeGetLength(value) <= RUN) return undefined;
  return TYPED_ARRAYS[name];
}

const sorting = {
  sort(comparator) {
    const TypedArray = tooLarge(this, comparator);
    return TypedArray === undefined ? TypedArrayPrototypeSort(this, comparator) : sortLarge(this, TypedArray);
  },
  toSorted(comparator) {
    const TypedArray = tooLarge(this, comparator);
    return TypedArray === undefined
      ? TypedArrayPrototypeToSorted(this, comparator)
      : sortLarge(new TypedArray(this), TypedArray);
  },
};
const TypedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype);
for (const name of ["sort", "toSorted"]) {
  ObjectDefineProperty(TypedArrayPrototype, name, {
    __proto__: null,
    value: sorting[name],
    writable: true,
    enumerable: false,
    configurable: true,
  });
}

const WASM_PAGE = 65536;

// A count as it is read once: memories of 64 bits take a BigInt.
const pages = (value) => typeof value === "bigint" ? value : Number(value);

// WebAssembly's memory is outside the heap and not V8's to refuse: asked for here, where it would go over the limit.
function needWasmRoom(count) {
  const pages = Number(count);
  // What is no number of pages, V8 refuses.
  if (!(pages > 0 && pages < 2 ** 32)) return;
  const invocation = core.getAsyncContext();
  if (!op_wasm_room(typeof invocation === "number" ? invocation : 0, pages * WASM_PAGE)) {
    throw new RangeError("WebAssembly.Memory: over the limit on WebAssembly memory (wasm_bytes)");
  }
}

// No SharedArrayBuffer: with a second thread it would be a clock fine enough to read other tenants' memory through the
// processor's caches. WebAssembly's memories are the other door to one. A module may define a shared memory itself, so
// what a memory gives is checked as well as what is asked of it. Called in a live isolate: a snapshot has no WebAssembly.
function refuseSharedMemory() {
  const NativeMemory = WebAssembly.Memory;
  const { prototype } = NativeMemory;
  const refuse = () => {
    throw new TypeError("WebAssembly.Memory: shared memory is not available");
  };
  const Memory = function Memory(descriptor) {
    if (new.target === undefined) throw new TypeError("WebAssembly.Memory must be invoked with 'new'");
    if (typeof descriptor !== "object" || descriptor === null) return ReflectConstruct(NativeMemory, [descriptor], new.target);
    // Each member is read once, so that it cannot be another the second time.
    const copy = { __proto__: null };
    for (const name of ["address", "index", "initial", "maximum", "minimum"]) {
      const value = descriptor[name];
      if (value !== undefined) copy[name] = name === "address" || name === "index" ? value : pages(value);
    }
    if (descriptor.shared) refuse();
    needWasmRoom(copy.initial ?? copy.minimum ?? 0);
    return ReflectConstruct(NativeMemory, [copy], new.target);
  };
  ObjectDefineProperty(Memory, "prototype", { __proto__: null, value: prototype, writable: false });
  ObjectDefineProperty(prototype, "constructor", { __proto__: null, value: Memory });
  const unshared = (buffer) => {
    // Throws for a shared buffer, which is of another class.
    try {
      ArrayBufferPrototypeGetByteLength(buffer);
    } catch {
      refuse();
    }
    return buffer;
  };
  const buffer = uncurryThis(Object.getOwnPropertyDescriptor(prototype, "buffer").get);
  const members = {
    get buffer() {
      return unshared(buffer(this));
    },
  };
  ObjectDefineProperty(prototype, "buffer", { __proto__: null, get: Object.getOwnPropertyDescriptor(members, "buffer").get });
  for (const name of ["toFixedLengthBuffer", "toResizableBuffer"]) {
    if (prototype[name] === undefined) continue;
    const native = uncurryThis(prototype[name]);
    const method = { [name]() {
      return unshared(native(this));
    } }[name];
    ObjectDefineProperty(prototype, name, { __proto__: null, value: method });
  }
  const grow = uncurryThis(prototype.grow);
  const growing = { grow(delta) {
    delta = pages(delta);
    needWasmRoom(delta);
    return grow(this, delta);
  } };
  ObjectDefineProperty(prototype, "grow", { __proto__: null, value: growing.grow });
  ObjectDefineProperty(WebAssembly, "Memory", { __proto__: null, value: Memory });
  // They end the process: the op that would feed them is not there. (Workers has neither.)
  delete WebAssembly.compileStreaming;
  delete WebAssembly.instantiateStreaming;
}

return { bareOps, queueMicrotask: primordials.queueMicrotask, refuseSharedMemory };
})();
