// The clock that a function sees. It stands still while JavaScript runs, so that nothing that happens in between can be
// timed with it: not what is in the processor's caches, and not another tenant's work. Rust writes the time down before
// each stretch of JavaScript: when a request begins, and when something that was waited for has happened.

(function () {
"use strict";
const { primordials } = __bootstrap;
const {
  Date: NativeDate, DatePrototype, DatePrototypeToString, Float64Array, ObjectDefineProperty, ReflectConstruct,
  SafeWeakMap, uncurryThis, WeakMapPrototypeGet, WeakMapPrototypeSet,
} = primordials;

// Whole milliseconds: since 1970, since the function's start, and of that start since 1970.
const cells = new Float64Array(new ArrayBuffer(24));
const now = () => cells[0];

const Date = function Date(year, month, date, hours, minutes, seconds, ms) {
  if (new.target === undefined) return DatePrototypeToString(new NativeDate(cells[0]));
  if (arguments.length === 0) {
    return new.target === Date ? new NativeDate(cells[0]) : ReflectConstruct(NativeDate, [cells[0]], new.target);
  }
  if (arguments.length === 1 && new.target === Date) return new NativeDate(year);
  return ReflectConstruct(NativeDate, arguments, new.target);
};
const define = (holder, name, value) =>
  ObjectDefineProperty(holder, name, { __proto__: null, value, writable: true, enumerable: false, configurable: true });
const statics = {
  now() {
    return cells[0];
  },
};
define(Date, "now", statics.now);
for (const name of ["parse", "UTC"]) define(Date, name, NativeDate[name]);
ObjectDefineProperty(Date, "prototype", { __proto__: null, value: DatePrototype, writable: false });
define(DatePrototype, "constructor", Date);
define(globalThis, "Date", Date);

// A formatter that is given nothing formats the time that it is.
const formatter = Intl.DateTimeFormat.prototype;
const { get: nativeFormat } = Object.getOwnPropertyDescriptor(formatter, "format");
const formatOf = uncurryThis(nativeFormat);
const formatToParts = uncurryThis(formatter.formatToParts);
const formats = new SafeWeakMap();
const members = {
  get format() {
    const native = formatOf(this);
    let format = WeakMapPrototypeGet(formats, native);
    if (format === undefined) {
      format = (date) => native(date === undefined ? cells[0] : date);
      ObjectDefineProperty(format, "name", { __proto__: null, value: "", configurable: true });
      WeakMapPrototypeSet(formats, native, format);
    }
    return format;
  },
  formatToParts(date) {
    return formatToParts(this, date === undefined ? cells[0] : date);
  },
};
const { get: format } = Object.getOwnPropertyDescriptor(members, "format");
ObjectDefineProperty(formatter, "format", { __proto__: null, get: format, set: undefined, enumerable: false, configurable: true });
define(formatter, "formatToParts", members.formatToParts);

class Performance {
  now() {
    return cells[1];
  }

  get timeOrigin() {
    return cells[2];
  }

  toJSON() {
    return { timeOrigin: this.timeOrigin };
  }

  get [Symbol.toStringTag]() {
    return "Performance";
  }
}

return { cells, now, performance: new Performance() };
})();
