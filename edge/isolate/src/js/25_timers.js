// Timers that end with the request that set them, as in Workers: what runs after an answer is what waitUntil() was given.

(function () {
"use strict";
const { core } = __bootstrap;
const { op_hold, op_touch } = core.ops;
// They refuse any other `this` than the global object, or none.
const { setTimeout: start, setInterval: repeat, clearTimeout: cancel } = core.loadExtScript("ext:deno_web/02_timers.js");
const { getAsyncContext } = core;
const { Map: PlatformMap, Set: PlatformSet, TypeError: PlatformTypeError } = globalThis;

// The timers of each invocation that has some.
const pending = new PlatformMap();

function note(invocation, id) {
  const set = pending.get(invocation);
  if (set !== undefined) set.add(id);
  else pending.set(invocation, new PlatformSet([id]));
}

function set(begin, callback, delay, args) {
  if (typeof callback !== "function") throw new PlatformTypeError("The first argument of a timer must be a function");
  const invocation = getAsyncContext();
  if (typeof invocation !== "number") {
    throw new PlatformTypeError("Timers work only while a request is handled: move them from the top level into the handler");
  }
  // A request that is over sets no timers any more.
  if (!op_hold(invocation)) return 0;
  const id = begin(() => {
    if (begin === start) pending.get(invocation)?.delete(id);
    if (op_touch(invocation)) callback(...args);
  }, delay);
  note(invocation, id);
  return id;
}

const setTimeout = (callback, delay = 0, ...args) => set(start, callback, delay, args);
const setInterval = (callback, delay = 0, ...args) => set(repeat, callback, delay, args);

function clearTimeout(id = undefined) {
  pending.get(getAsyncContext())?.delete(id);
  cancel(id);
}

// Ends what an invocation left running.
function releaseTimers(invocation) {
  const set = pending.get(invocation);
  if (set === undefined) return;
  pending.delete(invocation);
  for (const id of set) cancel(id);
}

return { setTimeout, setInterval, clearTimeout, clearInterval: clearTimeout, releaseTimers };
})();
