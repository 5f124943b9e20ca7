//! Functions that use up what they can get.

/// Name, title and source of each.
pub(super) const ALL: [(&str, &str, &str); 10] = [
    ("loop", "an endless loop", "export default { fetch() { for (;;); } };"),
    ("microtasks", "promises without end", "export default { async fetch() { for (;;) await null; } };"),
    (
        "heap",
        "objects without end",
        "export default { fetch() { const held = []; for (;;) held.push({ held: held.length, more: [1, 2, 3] }); } };",
    ),
    (
        "buffers",
        "ArrayBuffers without end",
        "export default { fetch() { const held = []; for (;;) held.push(new Uint8Array(4 << 20).fill(1)); } };",
    ),
    (
        "regex",
        "a regular expression that backtracks",
        r#"export default { fetch() { return new Response(String(/^(a+)+$/.test("a".repeat(60) + "b"))); } };"#,
    ),
    (
        "timers",
        "100,000 timers",
        "export default {
           async fetch() {
             for (let n = 0; n < 100_000; n++) setTimeout(() => {}, n % 1000);
             await new Promise((done) => setTimeout(done, 500));
             return new Response();
           },
         };",
    ),
    (
        "logs",
        "100,000 lines to the log",
        r#"export default {
           fetch() {
             for (let n = 0; n < 100_000; n++) console.log(n, "a line that nobody wants to read");
             return new Response();
           },
         };"#,
    ),
    (
        "sort",
        "a typed array of 4 million sorted",
        "export default {
           fetch() {
             const numbers = new Float64Array(4_000_000);
             for (let n = 0; n < numbers.length; n++) numbers[n] = (n * 7919) % 4_000_037;
             return new Response(String(numbers.sort()[0]));
           },
         };",
    ),
    (
        "recursion",
        "recursion without end",
        "export default { fetch() { const deeper = (n) => deeper(n + 1) + 1; return new Response(String(deeper(0))); } };",
    ),
    (
        "json",
        "JSON of ever longer arrays",
        "export default {
           fetch() {
             for (let array = [1]; ; array = [...array, ...array]) JSON.parse(JSON.stringify(array));
           },
         };",
    ),
];
