//! Functions in cells: they behave as in isolates, and nothing of them reaches further.
//!
//! The rest of the suite runs for functions in cells as well: `make test` does so, with `SUITE_ISOLATION=process`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use tests::fleet::{Options, function, skerry};
use tests::stub::Stub;
use tests::{Fleet, Reply, eventually, get, send};

use super::lost::{KILLER, PATIENT, STUCK};

const CELL: &str = r#""isolation": "process""#;

/// One PoP with one worker.
fn fleet(functions: &Path, more: &[&str]) -> Fleet {
    let more = ["--workers=1"].iter().chain(more).map(|text| (*text).to_owned()).collect();
    Fleet::with(&Options { functions: Some(functions.to_owned()), pops: "lhr=0", more, ..Options::default() })
}

/// The processes that are cells of `pop`.
fn cells(pop: i32) -> Vec<i32> {
    let folders = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<i32>().ok());
    let is_cell = |pid: &i32| {
        let text = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text("status").contains(&format!("PPid:\t{pop}\n")) && text("cmdline").ends_with("\0cell\0")
    };
    pids.filter(is_cell).collect()
}

fn log(fleet: &Fleet) -> String {
    std::fs::read_to_string(fleet.state().join("logs/lhr.log")).expect("a log")
}

/// What a client can tell of a response, without what differs between any two.
fn seen(reply: &Reply) -> (u16, BTreeMap<String, Vec<String>>, String) {
    const OF_ONE: [&str; 6] = ["date", "last-modified", "x-request-id", "server-timing", "x-skerry-version", "age"];
    let mut fields = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in reply.headers.iter().filter(|(name, _)| !OF_ONE.contains(&name.as_str())) {
        fields.entry(name.to_string()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let id = reply.header("x-request-id");
    (reply.status, fields, reply.text().replace(id, "ID"))
}

/// What the functions of the comparison do, by the first segment of the path below them.
const CASES: &str = r#"
let served = 0;
const cases = {
    async echo(request) {
        const fields = [...request.headers].filter(([name]) => name !== "x-request-id");
        return Response.json({ method: request.method, url: request.url, fields, body: await request.text(), cf: request.cf });
    },
    cookies: () => new Response(null, { status: 204, headers: [["set-cookie", "a=1"], ["set-cookie", "b=2"], ["x-e", "caf\u00e9"]] }),
    redirect: () => Response.redirect("https://example.org/there", 307),
    late(request) {
        const { readable, writable } = new TransformStream();
        (async () => {
            const writer = writable.getWriter();
            for (let n = 0; n < 5; n++) {
                await new Promise((done) => setTimeout(done, 5));
                await writer.write(new TextEncoder().encode(`part ${n}\n`));
            }
            await writer.close();
        })();
        return new Response(readable, { headers: { "x-streamed": "yes" } });
    },
    turn(request) {
        const upper = new TransformStream({ transform(chunk, out) { out.enqueue(chunk.map((byte) => byte ^ 0x20)); } });
        return new Response(request.body.pipeThrough(upper));
    },
    long: () => new Response("0123456789abcdef".repeat(1 << 16)),
    empty: () => new Response(),
    known: () => new Response(null, { headers: { "content-length": "5" } }),
    async origin(request) {
        const response = await fetch(request);
        const { status, headers } = response;
        return Response.json({ status, type: headers.get("content-type"), cache: headers.get("cache-status"), body: await response.text() });
    },
    async post() {
        const response = await fetch(`${ENV.HERE}/echo`, { method: "POST", body: "x".repeat(300_000), headers: { "x-own": "1" } });
        return new Response(response.body, response);
    },
    refused: async () => Response.json(await fetch("http://127.0.0.1:9/").then(() => "no", (error) => error.name)),
    async nothing(request) { await fetch("https://[::1]/"); },
    async many() {
        for (let n = 0; n < 5; n++) await fetch(ENV.HERE);
    },
    async limiter(request) {
        const answers = [];
        for (let n = 0; n < 4; n++) answers.push((await ENV.LIMITER.limit({ key: request.headers.get("x-key") })).success);
        return Response.json(answers);
    },
    async cohort(request) { return Response.json(await ENV.COHORT.assign(request)); },
    throws() { throw new TypeError("secret"); },
    open(request, ctx) { ctx.passThroughOnException(); throw new Error("secret"); },
    never: () => new Promise(() => {}),
    nonsense: () => "text",
    loops() { for (;;); },
    hoards() { const all = []; for (;;) all.push(new Array(1000).fill(all.length)); },
    deep() { const deeper = () => deeper() + 1; return Response.json(deeper()); },
    flood: () => new Response("x".repeat(3_000_000)),
    heads: () => new Response("", { headers: { "x-long": "y".repeat(200_000) } }),
    slow: () => new Promise((done) => setTimeout(done, 5000)),
    half: () => new Response(new ReadableStream({ pull(out) { out.enqueue(new Uint8Array(10)); out.error(new Error("secret")); } })),
    logs: () => { console.log("a line"); console.error({ of: ["another"] }); return new Response("logged"); },
    wait(request, ctx) { ctx.waitUntil((async () => { await new Promise((done) => setTimeout(done, 20)); console.log("done later"); })()); return new Response("now"); },
    place: () => Response.json([new Date(0).getHours(), Intl.DateTimeFormat().resolvedOptions(), new Date(7e8).toString()]),
    state: () => Response.json({ first: served === 0 }),
    vars: () => Response.json([ENV.GREETING, Object.keys(ENV).sort()]),
    digest: async () => Response.json([...new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode("abc")))]),
    clone: () => Response.json(structuredClone({ a: new Map([[1, new Date(0)]]) }).a.size),
    wasm: () => {
        const bytes = Uint8Array.from(atob("AGFzbQEAAAABBwFgAn9/AX8DAgEABwcBA2FkZAAACgkBBwAgACABags="), (c) => c.charCodeAt(0));
        return Response.json(new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.add(2, 40));
    },
};
let ENV;
export default {
    fetch(request, env, ctx) {
        ENV = env;
        const name = new URL(request.url).pathname.split("/")[2];
        return cases[name](request, ctx);
    },
};
"#;

/// A fleet with the function of the comparison, in a cell or not.
fn compared(here: &str, isolation: &str) -> (tempfile::TempDir, Fleet) {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        r#"{isolation} "vars": {{ "GREETING": "hello", "HERE": "{here}" }}, "assets": {{ "directory": "public" }},
        "ratelimits": [{{ "name": "LIMITER", "namespace_id": "1", "simple": {{ "limit": 2, "period": 60 }} }}],
        "cohorts": [{{ "binding": "COHORT", "experiment": "one", "cohorts": {{ "a": 50, "b": 50 }}, "cookie": "c" }}],
        "limits": {{ "cpu_ms": 2000, "wall_ms": 1000, "heap_bytes": "32MiB", "subrequests": 3, "response_body_bytes": "2MiB" }}"#
    );
    let place = function(&folder.path().join("f"), &config, &[("index.js", CASES)]);
    for (name, text) in [("open", "from the origin"), ("origin", "an object")] {
        std::fs::create_dir_all(place.join("public/f").join(name)).unwrap();
        std::fs::write(place.join("public/f").join(name).join("page.txt"), text).unwrap();
    }
    let fleet = fleet(folder.path(), &["--allow-fetch=127.0.0.1/32"]);
    (folder, fleet)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_sees_no_difference_between_a_function_in_a_cell_and_one_in_an_isolate() {
    let stub = Stub::start(|request| {
        let own = request.headers().get("x-own").map_or("", |value| value.to_str().unwrap());
        http::Response::builder().header("x-got", format!("{} {own}", request.method())).body("outside".into()).unwrap()
    })
    .await;
    let here = format!("http://{}", stub.address);
    let (_kept, inside) = compared(&here, &format!("{CELL},"));
    let (_too, outside) = compared(&here, "");
    eventually("one waits for the first tenant", async || cells(inside.pid("lhr").unwrap()).len() == 1).await;

    let large = "z".repeat(400_000);
    let cases: &[(Method, &str, &str)] = &[
        (Method::GET, "echo/a%20b?c=d&c=e", ""),
        (Method::POST, "echo", "a body"),
        (Method::PUT, "echo", &large),
        (Method::HEAD, "echo", ""),
        (Method::OPTIONS, "cookies", ""),
        (Method::GET, "cookies", ""),
        (Method::GET, "redirect", ""),
        (Method::GET, "late", ""),
        (Method::POST, "turn", "Abc"),
        (Method::POST, "turn", &large),
        (Method::GET, "long", ""),
        (Method::HEAD, "long", ""),
        (Method::GET, "empty", ""),
        (Method::HEAD, "known", ""),
        (Method::GET, "origin/page.txt", ""),
        (Method::GET, "origin/page.txt", ""),
        (Method::GET, "origin/missing", ""),
        (Method::GET, "post", ""),
        (Method::GET, "refused", ""),
        (Method::GET, "nothing", ""),
        (Method::GET, "many", ""),
        (Method::GET, "limiter", ""),
        (Method::GET, "limiter", ""),
        (Method::GET, "cohort", ""),
        (Method::GET, "throws", ""),
        (Method::GET, "open/page.txt", ""),
        (Method::POST, "open/page.txt", "a body"),
        (Method::GET, "never", ""),
        (Method::GET, "nonsense", ""),
        (Method::GET, "loops", ""),
        (Method::GET, "hoards", ""),
        (Method::GET, "deep", ""),
        (Method::GET, "flood", ""),
        (Method::GET, "heads", ""),
        (Method::GET, "slow", ""),
        (Method::GET, "logs", ""),
        (Method::GET, "wait", ""),
        (Method::GET, "vars", ""),
        (Method::GET, "place", ""),
        (Method::GET, "digest", ""),
        (Method::GET, "clone", ""),
        (Method::GET, "wasm", ""),
        (Method::GET, "no-such-case", ""),
    ];
    let fields = [("host", "example.test"), ("x-key", "k"), ("cookie", "c=1"), ("cookie", "d=2"), ("accept", "*/*")];
    let mut statuses = std::collections::BTreeSet::new();
    for (method, case, body) in cases {
        let path = format!("/f/{case}");
        let ask = async |fleet: &Fleet| {
            seen(&send(fleet.pop("lhr"), method.clone(), &path, &fields, (*body).to_owned()).await)
        };
        let (inside, outside) = tokio::join!(ask(&inside), ask(&outside));
        assert_eq!(inside, outside, "{method} {case}");
        statuses.insert(inside.0);
    }
    assert!(statuses.is_superset(&[200, 204, 307, 500, 504].into()), "the cases cover {statuses:?}");
    // A body that breaks off does so on both sides.
    for fleet in [&inside, &outside] {
        assert!(tests::client::try_send(fleet.pop("lhr"), Method::GET, "/f/half", &fields, "").await.is_err());
    }
    // And both logs have what each said.
    eventually("what waitUntil was given is done", async || {
        log(&inside).contains("done later") && log(&outside).contains("done later")
    })
    .await;
    let told = |fleet: &Fleet| {
        let codes = |line: &str| {
            let (_, rest) = line.split_once(" function: ")?;
            Some(rest.split_once("pop=lhr")?.0.to_owned())
        };
        log(fleet).lines().filter_map(codes).collect::<Vec<_>>()
    };
    assert_eq!(told(&inside), told(&outside));
    assert_eq!(told(&inside).iter().filter(|line| line.contains("a line")).count(), 1);
}

#[tokio::test]
async fn a_cell_has_nothing_but_its_sockets() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("f"), CELL, &[("index.js", "export default { fetch: () => new Response('in') }")]);
    let fleet = fleet(folder.path(), &[]);
    let pop = fleet.pid("lhr").unwrap();
    assert_eq!(get(fleet.pop("lhr"), "/f", &[]).await.text(), "in");
    for cell in cells(pop) {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{cell}/{file}")).unwrap();
        eventually("the walls are up", async || {
            let status = read("status");
            let has = |line: &str| status.lines().any(|known| known == line);
            ["Name:\tskerry-cell", "NoNewPrivs:\t1", "Seccomp:\t2", "Seccomp_filters:\t3"].into_iter().all(has)
        })
        .await;
        assert_eq!(read("environ"), "");
        let open = std::fs::read_dir(format!("/proc/{cell}/fd")).unwrap().flatten();
        let open = open.map(|fd| std::fs::read_link(fd.path()).unwrap().display().to_string());
        let strange: Vec<_> =
            open.filter(|name| !["socket:[", "anon_inode:"].iter().any(|known| name.starts_with(known))).collect();
        assert!(strange.is_empty(), "{strange:?}");
        assert_eq!(std::fs::read_link(format!("/proc/{cell}/cwd")).unwrap(), Path::new("/"));
    }
    let told = log(&fleet);
    assert!(
        told.lines().any(|line| line.contains("functions run in cells") && line.contains("seccomp=true")),
        "{told}"
    );
}

/// Each wall alone refuses each attempt, and without walls each succeeds: so it is the wall that refuses.
#[test]
fn each_wall_of_a_cell_refuses_what_none_may_do() {
    let attempt = |what: &str, walls: &str| {
        let output =
            std::process::Command::new(skerry()).args(["cell", "--attempt", what, "--walls", walls]).output().unwrap();
        output.status.success()
    };
    for what in ["read", "write", "listen", "exec", "fork", "signal"] {
        assert!(attempt(what, "none"), "{what} works without walls");
        for walls in ["seccomp", "landlock", "all"] {
            assert!(!attempt(what, walls), "{what} behind {walls}");
        }
    }
}

#[tokio::test]
async fn tenants_have_cells_of_their_own_and_share_them_where_they_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let source = "export default { fetch: () => new Response('in') }";
    for (name, tenant) in [("a", ""), ("b", ""), ("c", r#", "tenant": "a""#), ("d", r#", "tenant": "a""#)] {
        function(&folder.path().join(name), &format!("{CELL}{tenant}"), &[("index.js", source)]);
    }
    let fleet = fleet(folder.path(), &[]);
    let gauge = async |state: &str| fleet.scrape("lhr").await.sum("skerry_cells", &[("state", state)]);
    // The tenant a is none of the function a: that has a cell to itself.
    for (name, leased) in [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 3.0), ("a", 3.0)] {
        assert_eq!(get(fleet.pop("lhr"), &format!("/{name}"), &[]).await.text(), "in");
        eventually("the metrics tell", async || gauge("leased").await == leased && gauge("ready").await == 1.0).await;
    }
    assert_eq!(cells(fleet.pid("lhr").unwrap()).len(), 4);
    fleet.ok(&["delete", "b"]);
    eventually("the cell of a function that is gone has ended", async || gauge("leased").await == 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_kills_its_cell_costs_nobody_else_anything() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("killer"), &format!("{CELL}, {PATIENT}"), &[("index.js", KILLER)]);
    function(&folder.path().join("stuck"), CELL, &[("index.js", STUCK)]);
    let open = format!(r#"{CELL}, {PATIENT}, "assets": {{ "directory": "public" }}, "on_failure": "origin""#);
    let public = function(&folder.path().join("open"), &open, &[("index.js", KILLER)]).join("public/open");
    std::fs::create_dir_all(&public).unwrap();
    std::fs::write(public.join("page.txt"), "from the origin").unwrap();
    let waiting = "export default { async fetch() {
        await new Promise((done) => setTimeout(done, 1500));
        return new Response('waited');
    } }";
    function(&folder.path().join("waiting"), CELL, &[("index.js", waiting)]);
    function(&folder.path().join("neighbour"), "", &[("index.js", waiting)]);
    let fleet = fleet(folder.path(), &[]);
    let (pop, pid) = (fleet.pop("lhr"), fleet.pid("lhr"));
    for (time, name, cause) in [(1, "killer", "exhausted"), (2, "killer", "exhausted"), (1, "stuck", "stuck")] {
        let path = format!("/{name}?kill");
        let (lost, waited, neighbour) =
            tokio::join!(get(pop, &path, &[]), get(pop, "/waiting", &[]), get(pop, "/neighbour", &[]));
        super::lost::assert_lost(&lost);
        assert_eq!((waited.text().as_str(), neighbour.text().as_str()), ("waited", "waited"));
        let told = log(&fleet);
        let line = told.lines().find(|line| {
            line.contains(&format!("function={name}@"))
                && line.contains(lost.header("x-request-id"))
                && line.contains(&format!("strikes={time}"))
        });
        assert!(line.is_some_and(|line| line.contains("a cell was lost")), "{told}");
        assert!(fleet.scrape("lhr").await.sum("skerry_cells_lost_total", &[("cause", cause)]) >= 1.0);
        assert_eq!(get(pop, &format!("/{name}"), &[]).await.text(), "alive", "in another cell");
    }
    super::lost::assert_lost(&get(pop, "/killer?kill", &[]).await);
    let reply = get(pop, "/killer", &[]).await;
    assert_eq!((reply.status, reply.header("x-skerry-error")), (500, "function/quarantined"));
    let reply = get(pop, "/open/page.txt?kill", &[]).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "from the origin"), "it fails open, as with any failure");
    assert_eq!(fleet.scrape("lhr").await.sum("skerry_workers_lost_total", &[]), 0.0);
    assert_eq!(fleet.pid("lhr"), pid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_its_cell_leaves_behind_does_not_look_whole() {
    let folder = tempfile::tempdir().unwrap();
    let source = "export default { fetch: (request) => new Response(new ReadableStream({
        async pull(out) {
            out.enqueue(new TextEncoder().encode('part'));
            await new Promise((done) => setTimeout(done, 100));
        }
    })) }";
    function(&folder.path().join("f"), CELL, &[("index.js", source)]);
    let fleet = fleet(folder.path(), &[]);
    let (pop, pid) = (fleet.pop("lhr"), fleet.pid("lhr").unwrap());
    let reading = tokio::spawn(async move {
        tests::client::try_send(pop, Method::GET, "/f", &[], "").await.map_err(|error| error.to_string())
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = cells(pid);
    for cell in &before {
        kill_process(Pid::from_raw(*cell).unwrap(), Signal::KILL).unwrap();
    }
    assert!(tokio::time::timeout(Duration::from_secs(5), reading).await.unwrap().unwrap().is_err());
    eventually("others take their place", async || {
        let now = cells(pid);
        !now.is_empty() && now.iter().all(|cell| !before.contains(cell))
    })
    .await;
    let head = tokio::time::timeout(Duration::from_millis(900), get(pop, "/f", &[])).await;
    assert!(head.is_err(), "it streams again");
}

#[tokio::test]
async fn cells_end_with_their_pop_however_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("f"), CELL, &[("index.js", "export default { fetch: () => new Response('in') }")]);
    let fleet = fleet(folder.path(), &[]);
    for signal in [Signal::KILL, Signal::TERM] {
        assert_eq!(get(fleet.pop("lhr"), "/f", &[]).await.text(), "in");
        let pid = fleet.pid("lhr").unwrap();
        let before = cells(pid);
        assert_eq!(before.len(), 2);
        fleet.signal("lhr", signal);
        eventually("they are gone", async || {
            before.iter().all(|cell| !Path::new(&format!("/proc/{cell}/exe")).exists())
        })
        .await;
        if signal == Signal::KILL {
            eventually("it is started again", async || {
                let reply = tests::client::try_send(fleet.pop("lhr"), Method::GET, "/f", &[], "").await;
                reply.is_ok_and(|reply| reply.text() == "in") && fleet.pid("lhr").is_some_and(|now| now != pid)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn cells_come_and_go_within_their_memory() {
    const TENANTS: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    let source = "let n = 0; export default { fetch: () => new Response(String(++n)) }";
    for n in 0..TENANTS {
        function(&folder.path().join(format!("f{n}")), CELL, &[("index.js", source)]);
    }
    // Room for four, each with what its isolates take.
    let fleet = fleet(folder.path(), &["--isolates=40MiB"]);
    let (pop, pid) = (fleet.pop("lhr"), fleet.pid("lhr").unwrap());
    for _ in 0..3 {
        for n in 0..TENANTS {
            // Each time in a cell that has not had it: it has made room by then.
            assert_eq!(get(pop, &format!("/f{n}"), &[]).await.text(), "1");
            let (now, most) = (cells(pid).len(), 8);
            assert!(now <= most, "{now} processes, the spare one and those that are just ending among them");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_computes_for_long_runs_apart_behind_the_others() {
    let folder = tempfile::tempdir().unwrap();
    // No clock moves while it computes, so it counts.
    let source = "let n = 0;
    const spin = () => { let x = 0; for (let i = 0; i < 2e8; i++) x = (x + i) | 0; return x; };
    export default { fetch: (request) => new Response(request.url.endsWith('spin') ? String(spin()) : String(++n)) }";
    let patient = r#""limits": { "cpu_ms": 10000 }"#;
    let place = function(&folder.path().join("heavy"), patient, &[("index.js", source)]);
    function(&folder.path().join("light"), "", &[("index.js", source)]);
    let fleet = fleet(folder.path(), &[]);
    let (pop, pid) = (fleet.pop("lhr"), fleet.pid("lhr").unwrap());
    let ask = async |path: &str| get(pop, path, &[]).await.text();
    assert_eq!((ask("/heavy/").await, ask("/light/").await), ("1".into(), "1".into()));
    assert!(cells(pid).is_empty());
    let spun = ask("/heavy/spin").await;
    // From now on it is elsewhere, and its neighbour where it was.
    assert_eq!((ask("/heavy/").await, ask("/light/").await), ("1".into(), "2".into()));
    assert_eq!(ask("/heavy/spin").await, spun);
    let nice = |cell: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{cell}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().to_owned()
    };
    eventually("it lets others go first", async || cells(pid).iter().any(|cell| nice(cell) == "10")).await;
    let told = log(&fleet);
    assert!(told.lines().any(|line| line.contains("held up") && line.contains("function=heavy@")), "{told}");
    assert!(!told.lines().any(|line| line.contains("held up") && line.contains("function=light@")), "{told}");
    assert_eq!(fleet.scrape("lhr").await.sum("skerry_functions_apart", &[]), 1.0);
    // Another version begins among the others again.
    std::fs::write(place.join("index.js"), source.replace("let n = 0", "let n = 100")).unwrap();
    tokio::task::block_in_place(|| fleet.deploy(&place));
    eventually("the new version is live", async || {
        ask("/heavy/").await.starts_with('1') && ask("/heavy/").await.len() == 3
    })
    .await;
    assert_eq!(fleet.scrape("lhr").await.sum("skerry_functions_apart", &[]), 0.0);
}
