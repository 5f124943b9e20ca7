// Timers that end with the request that set them, as in Workers: what runs after an answer is what waitUntil() was given.

(function () {
"use strict";
const { core, primordials } = __bootstrap;
const { op_begin, op_done, op_hold, op_touch } = core.ops;
// They refuse any other `this` than the global object, or none.
const { setTimeout: start, setInterval: repeat, clearTimeout: cancel } = core.loadExtScript("ext:deno_web/02_timers.js");
const { getAsyncContext } = core;
const { SafeMap, SafeSet, TypeError } = primordials;

// The timers of each invocation that has some.
const pending = new SafeMap();

function note(invocation, id) {
  const set = pending.get(invocation);
  if (set !== undefined) set.add(id);
  else pending.set(invocation, new SafeSet([id]));
}

function set(begin, callback, delay, args) {
  if (typeof callback !== "function") throw new TypeError("The first argument of a timer must be a function");
  const invocation = getAsyncContext();
  if (typeof invocation !== "number") {
    throw new TypeError("Timers work only while a request is handled: move them from the top level into the handler");
  }
  // A request that is over sets no timers any more.
  if (!op_begin(invocation)) return 0;
  op_hold(invocation);
  const id = begin(() => {
    if (begin === start) ended(invocation, id);
    if (op_touch(invocation)) callback(...args);
  }, delay);
  note(invocation, id);
  return id;
}

const setTimeout = (callback, delay = 0, ...args) => set(start, callback, delay, args);
const setInterval = (callback, delay = 0, ...args) => set(repeat, callback, delay, args);

function ended(invocation, id) {
  if (pending.get(invocation)?.delete(id)) op_done(invocation);
}

function clearTimeout(id = undefined) {
  ended(getAsyncContext(), id);
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
