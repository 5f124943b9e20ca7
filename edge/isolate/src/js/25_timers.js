// Timers that end with the request that set them, as in Workers: what runs after an answer is what waitUntil() was given.

(function () {
const { core } = __bootstrap;
const { op_hold, op_touch } = core.ops;
const timers = core.loadExtScript("ext:deno_web/02_timers.js");
const { getAsyncContext } = core;
const { Map: PlatformMap, Set: PlatformSet, TypeError: PlatformTypeError } = globalThis;

// The timers of each invocation that has some.
const pending = new PlatformMap();

function note(invocation, id) {
  const set = pending.get(invocation);
  if (set !== undefined) set.add(id);
  else pending.set(invocation, new PlatformSet([id]));
}

function set(start, repeats, callback, delay, args) {
  if (typeof callback !== "function") throw new PlatformTypeError("The first argument of a timer must be a function");
  const invocation = getAsyncContext();
  if (typeof invocation !== "number") {
    throw new PlatformTypeError("Timers work only while a request is handled: move them from the top level into the handler");
  }
  // A request that is over sets no timers any more.
  if (!op_hold(invocation)) return 0;
  const id = start(() => {
    if (!repeats) pending.get(invocation)?.delete(id);
    if (op_touch(invocation)) callback(...args);
  }, delay);
  note(invocation, id);
  return id;
}

const setTimeout = (callback, delay = 0, ...args) => set(timers.setTimeout, false, callback, delay, args);
const setInterval = (callback, delay = 0, ...args) => set(timers.setInterval, true, callback, delay, args);

function clearTimeout(id = undefined) {
  pending.get(getAsyncContext())?.delete(id);
  timers.clearTimeout(id);
}

// Ends what an invocation left running.
function releaseTimers(invocation) {
  const set = pending.get(invocation);
  if (set === undefined) return;
  pending.delete(invocation);
  for (const id of set) timers.clearTimeout(id);
}

return { setTimeout, setInterval, clearTimeout, clearInterval: clearTimeout, releaseTimers };
})();
