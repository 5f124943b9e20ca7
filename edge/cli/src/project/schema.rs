//! The keys of a project file, and what each must be.

use std::collections::{BTreeMap, HashMap};

use origin::bundle::{
    CohortBinding, FrontCache, FunctionConfig, FunctionName, Isolation, OnFailure, RouteCache, RoutePattern,
};
use origin::store::MAX_ATTRIBUTE_BYTES;

use super::bindings::{self, Names};
use super::budget;
use super::document::{self, Node};
use super::fields::{Field, Fields, Findings};
use super::folder::{self, Folder};
use super::front;
use super::placement;
use super::{AssetFolder, DEFAULT_ASSET_CACHE_CONTROL, Project, ProjectErrors, SourceErrors, limits, tokens};

/// Keys that wrangler knows and Skerry does not have: a project that needs one of them would not do what it says.
const UNSUPPORTED: &[&str] = &[
    "account_id",
    "ai",
    "ai_search",
    "ai_search_namespaces",
    "alias",
    "analytics_engine_datasets",
    "base_dir",
    "browser",
    "build",
    "cloudchamber",
    "compliance_region",
    "configPath",
    "containers",
    "d1_databases",
    "data_blobs",
    "define",
    "dev",
    "dispatch_namespaces",
    "durable_objects",
    "env",
    "exports",
    "find_additional_modules",
    "first_party_worker",
    "hyperdrive",
    "images",
    "jsx_factory",
    "jsx_fragment",
    "keep_names",
    "keep_vars",
    "kv_namespaces",
    "legacy_env",
    "logfwdr",
    "logpush",
    "media",
    "migrations",
    "minify",
    "mtls_certificates",
    "no_bundle",
    "node_compat",
    "observability",
    "pages_build_output_dir",
    "pipelines",
    "preserve_file_names",
    "preview_urls",
    "python_modules",
    "queues",
    "r2_buckets",
    "rules",
    "secrets",
    "secrets_store_secrets",
    "send_email",
    "send_metrics",
    "services",
    "site",
    "tail_consumers",
    "streaming_tail_consumers",
    "text_blobs",
    "triggers",
    "tsconfig",
    "type",
    "unsafe",
    "unsafe_hello_world",
    "upload_source_maps",
    "usage_model",
    "vectorize",
    "version_metadata",
    "vpc_services",
    "wasm_modules",
    "worker_loaders",
    "workers_dev",
    "workflows",
    "zone_id",
];

/// Reads the text of the project file `file` in `folder`.
///
/// # Errors
/// Everything that is wrong, in the order of the file.
pub(super) fn read(folder: Folder, file: &'static str, text: &str) -> Result<Project, ProjectErrors> {
    let mut findings = Findings::new(file, text);
    let (tree, flaws) = document::parse(super::language(file), text);
    for flaw in flaws {
        findings.flaw(flaw);
    }
    let project = tree.and_then(|tree| {
        let root = Field { path: String::new(), key_span: 0..0, value: &tree };
        let fields = findings.table(&root)?;
        project(&mut findings, folder, file, fields)
    });
    let (errors, warnings) = findings.finish();
    match project {
        Some(project) if errors.is_empty() => Ok(Project { warnings, ..project }),
        _ => Err(SourceErrors(errors)),
    }
}

fn project(findings: &mut Findings<'_>, folder: Folder, file: &'static str, mut fields: Fields<'_>) -> Option<Project> {
    let _ = fields.get("$schema");
    let name = name(findings, &mut fields);
    let (main, assets) = contents(findings, &mut fields, &folder, file);
    let config = config(findings, &mut fields, &folder);
    if config.routes.is_empty() && main.is_some() && findings.count() == 0 {
        let help = "add \"routes\": [\"*/path/*\"] for the requests it answers";
        findings.doubt("routes", 0..0, "without routes no request reaches this function", help);
    }
    fields.finish(findings, UNSUPPORTED);
    Some(Project { folder, file, name: name?, main, assets, config, warnings: Vec::new() })
}

fn name(findings: &mut Findings<'_>, fields: &mut Fields<'_>) -> Option<FunctionName> {
    let field = fields.required(findings, "name", "it is the function's name, for instance \"hello\"")?;
    let text = findings.string(&field)?;
    match FunctionName::try_from(text.to_owned()) {
        Ok(name) => Some(name),
        Err(error) => {
            findings.wrong(&field, error.to_string(), "");
            None
        }
    }
}

/// The entry module and the assets: one of the two must be there.
fn contents(
    findings: &mut Findings<'_>,
    fields: &mut Fields<'_>,
    folder: &Folder,
    file: &str,
) -> (Option<String>, Option<AssetFolder>) {
    let main_field = fields.get("main");
    let assets_field = fields.get("assets");
    if main_field.is_none() && assets_field.is_none() {
        let help = "\"main\" is the entry module, for instance \"src/index.ts\"; \"assets\" are static files";
        fields.missing(findings, "the key \"main\" is missing, and there are no \"assets\"", help);
    }
    let main = main_field.and_then(|field| existing_file(findings, folder, &field));
    let assets = assets_field.and_then(|field| assets(findings, folder, file, main.as_deref(), &field));
    (main, assets)
}

/// A file inside the folder, by its path relative to it.
pub(super) fn existing_file(findings: &mut Findings<'_>, folder: &Folder, field: &Field<'_>) -> Option<String> {
    let text = findings.string(field)?;
    match folder::join("", text).and_then(|path| folder.file(&path).map(|_| path)) {
        Ok(path) => Some(path),
        Err(error) => {
            findings.wrong(field, format!("{text:?} {error}"), error.help());
            None
        }
    }
}

fn assets(
    findings: &mut Findings<'_>,
    folder: &Folder,
    file: &str,
    main: Option<&str>,
    field: &Field<'_>,
) -> Option<AssetFolder> {
    let mut fields = findings.table(field)?;
    let directory = fields.required(findings, "directory", "it is the folder whose files are published");
    let cache_control = fields.get("cache_control");
    for (key, why) in [
        ("binding", "a function has no binding for its assets: they are at the origin, fetch(request) reaches them"),
        ("not_found_handling", "what is not an asset goes to the function, or is answered with 404"),
        ("html_handling", "index.html answers for its folder, every other file has its own path"),
        ("run_worker_first", "the function always runs first on its routes"),
    ] {
        if let Some(field) = fields.get(key) {
            let message = format!("{key:?} is a wrangler key that Skerry does not support yet");
            findings.error(&field.path, field.key_span, message, format!("remove it: {why}"));
        }
    }
    fields.finish(findings, &[]);
    let cache_control = match cache_control {
        Some(field) => header_value(findings, &field)?.to_owned(),
        None => DEFAULT_ASSET_CACHE_CONTROL.to_owned(),
    };
    let directory = asset_directory(findings, folder, file, main, &directory?)?;
    Some(AssetFolder { directory, cache_control })
}

fn asset_directory(
    findings: &mut Findings<'_>,
    folder: &Folder,
    file: &str,
    main: Option<&str>,
    field: &Field<'_>,
) -> Option<String> {
    let text = findings.string(field)?;
    let directory = match folder::join("", text).and_then(|path| folder.directory(&path).map(|_| path)) {
        Ok(path) => path,
        Err(error) => {
            findings.wrong(field, format!("{text:?} {error}"), error.help());
            return None;
        }
    };
    let inside = |path: &str| directory.is_empty() || path.starts_with(&format!("{directory}/"));
    if let Some(private) = [Some(file), main].into_iter().flatten().find(|path| inside(path)) {
        let message = format!("this folder would publish {private}");
        findings.wrong(field, message, "give the static files a folder of their own, for instance \"public\"");
        return None;
    }
    Some(directory)
}

fn header_value<'v>(findings: &mut Findings<'_>, field: &Field<'v>) -> Option<&'v str> {
    let text = findings.string(field)?;
    if text.len() <= MAX_ATTRIBUTE_BYTES && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Some(text);
    }
    let message = format!("the value of a header is at most {MAX_ATTRIBUTE_BYTES} printable ASCII characters");
    findings.wrong(field, message, "");
    None
}

fn config(findings: &mut Findings<'_>, fields: &mut Fields<'_>, folder: &Folder) -> FunctionConfig {
    let mut names = Names::default();
    let date = fields
        .required(findings, "compatibility_date", "write the day you began, as \"YYYY-MM-DD\"")
        .and_then(|field| compatibility_date(findings, &field));
    if let Some(field) = fields.get("compatibility_flags") {
        compatibility_flags(findings, &field);
    }
    // In this order: of two things with one name on env, the later is told of.
    let vars = fields.get("vars").map(|field| vars(findings, &mut names, &field)).unwrap_or_default();
    let ratelimits = bindings::each(findings, &mut names, fields.get("ratelimits"), bindings::ratelimit);
    let jwt = bindings::each(findings, &mut names, fields.get("jwt"), |findings, names, field| {
        tokens::verifier(findings, names, folder, field)
    });
    let cohorts = bindings::each(findings, &mut names, fields.get("cohorts"), bindings::cohorts);
    let (routes, route_caches) = routes(findings, fields, &cohorts);
    let placement = fields.get("placement").and_then(|field| placement::placement(findings, &field));
    let region = fields.get("region").and_then(|field| placement::region(findings, &field, placement));
    let region = region.unwrap_or_default();
    FunctionConfig {
        compatibility_date: date.unwrap_or_default(),
        vars,
        routes,
        route_caches,
        cache: fields.get("cache").and_then(|field| cache(findings, &field, &cohorts)).flatten(),
        limits: fields.get("limits").map(|field| limits::limits(findings, &field, placement)).unwrap_or_default(),
        region_limits: region.limits,
        region_objective_ms: region.objective_ms,
        placement: placement.unwrap_or_default(),
        ratelimits,
        jwt,
        cohorts,
        on_failure: fields.get("on_failure").map(|field| on_failure(findings, &field)).unwrap_or_default(),
        min_ready: fields.get("min_ready").and_then(|field| min_ready(findings, &field)).unwrap_or_default(),
        isolation: fields.get("isolation").and_then(|field| isolation(findings, &field)).unwrap_or_default(),
        tenant: fields.get("tenant").and_then(|field| tenant(findings, &field)),
        budget: fields.get("budget").and_then(|field| budget::budget(findings, &field)),
    }
}

fn compatibility_date(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<String> {
    let text = findings.string(field)?;
    if !is_date(text) {
        findings.wrong(field, format!("{text:?} is not a day"), "write it as \"YYYY-MM-DD\"");
        return None;
    }
    Some(text.to_owned())
}

/// Whether `text` is `YYYY-MM-DD` and that day exists.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes.get(range)?.iter().try_fold(0_u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    };
    let (Some(year), Some(month), Some(day)) = (digits(0..4), digits(5..7), digits(8..10)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-' && (1..=days).contains(&day)
}

fn compatibility_flags(findings: &mut Findings<'_>, field: &Field<'_>) {
    for item in findings.array(field) {
        let Some(flag) = findings.string(&item) else { continue };
        let help = match flag {
            "nodejs_compat" | "nodejs_compat_v2" | "nodejs_als" => {
                "Skerry has no Node.js modules: use the web APIs, or bundle a replacement"
            }
            _ => "remove it: Skerry has one behaviour, that of the newest date",
        };
        findings.wrong(&item, format!("the flag {flag:?} is not supported"), help);
    }
}

fn vars(findings: &mut Findings<'_>, names: &mut Names, field: &Field<'_>) -> BTreeMap<String, serde_json::Value> {
    let Some(fields) = findings.table(field) else { return BTreeMap::new() };
    let mut vars = BTreeMap::new();
    for (name, field) in fields.named() {
        if names.claim(findings, name, &field.path, field.key_span.clone()) {
            vars.insert(name.to_owned(), field.value.to_json());
        }
    }
    vars
}

fn cache(findings: &mut Findings<'_>, field: &Field<'_>, cohorts: &[CohortBinding]) -> Option<Option<FrontCache>> {
    let cache = front::cache(findings, field)?;
    if let Some(cache) = &cache {
        front::check_cohorts(findings, field, cache, cohorts);
    }
    Some(cache)
}

/// The routes, and those with a cache in front that is not the function's.
fn routes(
    findings: &mut Findings<'_>,
    fields: &mut Fields<'_>,
    cohorts: &[CohortBinding],
) -> (Vec<RoutePattern>, Vec<RouteCache>) {
    let (one, many) = (fields.get("route"), fields.get("routes"));
    if let (Some(one), Some(_)) = (&one, &many) {
        let message = "\"route\" and \"routes\" exclude each other";
        findings.error(&one.path, one.key_span.clone(), message, "move it into \"routes\"");
    }
    let mut patterns: Vec<(Field<'_>, _)> = one.map(|field| (field, None)).into_iter().collect();
    for item in many.map(|field| findings.array(&field)).unwrap_or_default() {
        patterns.extend(route_pattern(findings, item, cohorts));
    }
    let (mut routes, mut caches) = (Vec::with_capacity(patterns.len()), Vec::new());
    let mut seen: HashMap<RoutePattern, String> = HashMap::new();
    for (field, cache) in &patterns {
        let Some(route) = route(findings, field) else { continue };
        if let Some(first) = seen.insert(route.clone(), field.path.clone()) {
            findings.wrong(field, format!("this is the same route as {first}"), "keep one of them");
            continue;
        }
        caches.extend(cache.clone().map(|cache| RouteCache { pattern: route.clone(), cache }));
        routes.push(route);
    }
    (routes, caches)
}

/// An item of `routes`: a text, or an object with the text under `pattern` and what is special about it.
fn route_pattern<'v>(
    findings: &mut Findings<'_>,
    item: Field<'v>,
    cohorts: &[CohortBinding],
) -> Option<(Field<'v>, Option<Option<FrontCache>>)> {
    if !matches!(item.value.node, Node::Table(_)) {
        return Some((item, None));
    }
    let mut fields = findings.table(&item)?;
    let pattern = fields.required(findings, "pattern", "for instance \"example.com/api/*\"");
    let cache = fields.get("cache").and_then(|field| cache(findings, &field, cohorts));
    fields.finish(findings, &["zone_name", "zone_id", "custom_domain"]);
    Some((pattern?, cache))
}

fn route(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<RoutePattern> {
    let text = findings.string(field)?;
    if text.contains("://") {
        let help = "write host/path without a scheme, for instance \"example.com/api/*\"";
        findings.wrong(field, "a route has no scheme", help);
        return None;
    }
    match RoutePattern::try_from(text.to_owned()) {
        Ok(route) => Some(route),
        Err(error) => {
            findings.wrong(field, error.to_string(), "");
            None
        }
    }
}

/// As many workers as a PoP can have.
const MOST_READY: u64 = 512;

fn min_ready(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<u32> {
    findings.integer(field, 0..=MOST_READY).and_then(|number| u32::try_from(number).ok())
}

fn isolation(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<Isolation> {
    let text = findings.string(field)?;
    let help = "write \"isolate\" (a V8 isolate) or \"process\" (around it a process for each tenant)";
    let isolation = text.parse();
    isolation.inspect_err(|_| findings.wrong(field, format!("{text:?} is no isolation"), help)).ok()
}

/// The name of a tenant is made as that of a function.
fn tenant(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<FunctionName> {
    let text = findings.string(field)?;
    let name = text.parse();
    let help = "1 to 63 of a-z, 0-9 and -, beginning with a letter and not ending with -";
    name.inspect_err(|_| findings.wrong(field, format!("{text:?} is no name of a tenant"), help)).ok()
}

fn on_failure(findings: &mut Findings<'_>, field: &Field<'_>) -> OnFailure {
    match findings.string(field) {
        Some("closed") => OnFailure::Closed,
        Some("origin") => OnFailure::Origin,
        Some(text) => {
            let help =
                "write \"closed\" (the client gets the fault) or \"origin\" (the client gets the origin's answer)";
            findings.wrong(field, format!("{text:?} is not a way to fail"), help);
            OnFailure::Closed
        }
        None => OnFailure::Closed,
    }
}
