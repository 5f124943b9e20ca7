// How a function sees itself: its log, and the words for its failures.

(function () {
"use strict";
const { core } = __bootstrap;
const { op_log } = core.ops;
const { inspectArgs } = core.loadExtScript("ext:deno_web/01_console.js");
const { now } = core.loadExtScript("ext:skerry/05_clock.js");
const { getAsyncContext } = core;

const DEBUG = 1, INFO = 2, WARN = 3, ERROR = 4;
const MAX_LABELS = 1000;
const MAX_CAUSES = 3;
const UNREADABLE = "(a value that cannot be shown: showing it throws)";

// Values as text. Their getters and hooks are the function's code, which may throw.
function show(args) {
  try {
    return inspectArgs(args, { colors: false });
  } catch {
    return UNREADABLE;
  }
}

// The handlers' view of a failure: the message, then the frames that are the function's own.
function describe(error) {
  try {
    return described(error, MAX_CAUSES);
  } catch {
    return UNREADABLE;
  }
}

function described(error, causes) {
  if (typeof error !== "object" || error === null || typeof error.stack !== "string") return `Uncaught ${show([error])}`;
  let { stack } = error;
  const { name, message, cause } = error;
  // A DOMException's stack was written before it had its name.
  if (message !== "" && !stack.includes(message)) stack = stack.replace(/^.*/, `${name}: ${message}`);
  const lines = stack.split("\n").filter((line) => !/\(ext:|at ext:/.test(line));
  const text = lines.join("\n").replaceAll("file:///", "");
  return cause === undefined || causes === 0 ? text : `${text}\nCaused by: ${described(cause, causes - 1)}`;
}

function log(level, text) {
  const id = getAsyncContext();
  op_log(typeof id === "number" ? id : 0, level, text);
}

// What nobody caught: a rejection, or a throw in a timer.
function report(what, error) {
  log(ERROR, `${what}: ${describe(error)}`);
}

let indent = "";
const counts = new Map();
const timers = new Map();

function write(level, args) {
  const text = show(args);
  log(level, indent === "" ? text : indent + text.replaceAll("\n", `\n${indent}`));
}

function elapsed(label, level, rest) {
  const began = timers.get(label);
  if (began === undefined) return write(WARN, [`Timer ${JSON.stringify(label)} does not exist`]);
  write(level, [`${label}: ${now() - began}ms`, ...rest]);
}

const labelOf = (label) => label === undefined ? "default" : `${label}`;

// Rows and columns as a drawn table; what is not made of rows is shown as it is.
function table(data, columns) {
  if (typeof data !== "object" || data === null) return undefined;
  const rows = data instanceof Map || data instanceof Set ? [...data.entries()] : Object.entries(data);
  const wanted = Array.isArray(columns) ? columns.map(String) : null;
  const names = wanted ?? [];
  let values = false;
  for (const [, row] of rows) {
    if (typeof row !== "object" || row === null) values = true;
    else if (wanted === null) for (const name of Object.keys(row)) if (!names.includes(name)) names.push(name);
  }
  const head = ["(index)", ...names, ...(values ? ["Values"] : [])];
  const lines = rows.map(([index, row]) => {
    const object = typeof row === "object" && row !== null;
    const cells = names.map((name) => object && Object.hasOwn(row, name) ? shown(row[name]) : "");
    return [`${index}`, ...cells, ...(values ? [object ? "" : shown(row)] : [])];
  });
  const widths = head.map((name, i) => lines.reduce((width, line) => Math.max(width, line[i].length), name.length));
  const draw = (cells) => `| ${cells.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  const rule = `+${widths.map((width) => "-".repeat(width + 2)).join("+")}+`;
  return [rule, draw(head), rule, ...lines.map(draw), rule].join("\n");
}

// Of a cell: strings in quotes, and everything on one line.
const shown = (value) => (typeof value === "string" ? JSON.stringify(value) : show([value])).replaceAll("\n", " ");

const console = {
  debug(...args) {
    write(DEBUG, args);
  },
  log(...args) {
    write(INFO, args);
  },
  info(...args) {
    write(INFO, args);
  },
  warn(...args) {
    write(WARN, args);
  },
  error(...args) {
    write(ERROR, args);
  },
  dir(value = undefined) {
    write(INFO, [value]);
  },
  dirxml(...args) {
    write(INFO, args);
  },
  trace(...args) {
    const trace = { stack: "" };
    Error.captureStackTrace(trace, console.trace);
    const frames = `${trace.stack}`.split("\n").slice(1).join("\n").replaceAll("file:///", "");
    write(INFO, [`Trace${args.length === 0 ? "" : `: ${show(args)}`}${frames === "" ? "" : `\n${frames}`}`]);
  },
  assert(condition = false, ...args) {
    if (condition) return;
    if (typeof args[0] === "string") args[0] = `Assertion failed: ${args[0]}`;
    else args.unshift("Assertion failed");
    write(ERROR, args);
  },
  count(label = undefined) {
    label = labelOf(label);
    const count = (counts.get(label) ?? 0) + 1;
    if (count > 1 || counts.size < MAX_LABELS) counts.set(label, count);
    write(INFO, [`${label}: ${count}`]);
  },
  countReset(label = undefined) {
    label = labelOf(label);
    if (!counts.delete(label)) write(WARN, [`Count for ${JSON.stringify(label)} does not exist`]);
  },
  time(label = undefined) {
    label = labelOf(label);
    if (timers.has(label)) return write(WARN, [`Timer ${JSON.stringify(label)} exists already`]);
    if (timers.size < MAX_LABELS) timers.set(label, now());
  },
  timeLog(label = undefined, ...rest) {
    elapsed(labelOf(label), INFO, rest);
  },
  timeEnd(label = undefined) {
    label = labelOf(label);
    elapsed(label, INFO, []);
    timers.delete(label);
  },
  timeStamp() {},
  group(...args) {
    if (args.length > 0) write(INFO, args);
    if (indent.length < 64) indent += "  ";
  },
  groupCollapsed(...args) {
    console.group(...args);
  },
  groupEnd() {
    indent = indent.slice(2);
  },
  table(data, columns = undefined) {
    let text;
    try {
      text = table(data, columns);
    } catch {
      text = UNREADABLE;
    }
    write(INFO, [text ?? data]);
  },
  clear() {},
};
Object.defineProperty(console, Symbol.toStringTag, { value: "console", configurable: true });

return { console, describe, show, report };
})();
