// Real packages, and each of them used while the module is evaluated, as applications do: schemas, templates, parsers and
// formats are made once.
import * as dates from "date-fns";
import highlight from "highlight.js/lib/common";
import * as immutable from "immutable";
import lodash from "lodash";
import * as luxon from "luxon";
import { Marked } from "marked";
import * as zod from "zod";

const Visit = zod.object({
  page: zod.string().min(1).max(200),
  at: zod.iso.datetime(),
  tags: zod.array(zod.enum(["edge", "cache", "origin"])).max(3),
});

const marked = new Marked({
  renderer: {
    code({ text, lang }) {
      const language = highlight.getLanguage(lang) ? lang : "plaintext";
      return `<pre><code>${highlight.highlight(text, { language }).value}</code></pre>\n`;
    },
  },
});

const PAGE = marked.parse("# Skerry\n\n```js\nconst island = { small: true };\n```\n\n- *rocky*\n- off a coast\n");
const ROUTES = immutable.Map(lodash.keyBy([{ path: "/" }, { path: "/about" }], "path"));
const BEGAN = luxon.DateTime.fromISO("2026-11-24T00:00:00Z", { zone: "utc" });
const WEEK = dates.eachDayOfInterval({ start: new Date(2026, 10, 23), end: new Date(2026, 10, 29) });

export default {
  fetch(request) {
    const visit = Visit.safeParse({ page: new URL(request.url).pathname, at: BEGAN.toISO(), tags: ["edge"] });
    if (!visit.success) return new Response(zod.prettifyError(visit.error), { status: 400 });
    const days = WEEK.map((day) => dates.format(day, "EEEEEE")).join(" ");
    return new Response(`${PAGE}${ROUTES.size} routes, ${days}, ${lodash.kebabCase(visit.data.page)}\n`, {
      headers: { "content-type": "text/html" },
    });
  },
};
