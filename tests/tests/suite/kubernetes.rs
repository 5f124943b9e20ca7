//! The manifests in `deploy/kubernetes`, and what an autoscaler reads of a PoP by them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::fleet::{function, skerry};
use tests::{Fleet, Lone, Options, eventually, get};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("deploy/kubernetes")
}

fn manifest(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).expect(name)
}

/// What stands behind `key: ` in a manifest, wherever, without quotes.
fn values<'a>(manifest: &'a str, key: &str) -> Vec<&'a str> {
    let key = format!("{key}: ");
    let lines = manifest.lines().map(|line| line.trim_start().trim_start_matches("- "));
    lines.filter_map(|line| line.strip_prefix(&*key)).map(|value| value.trim_matches('"')).collect()
}

/// A fleet of one PoP with one worker, whose function answers after a while.
fn slow() -> Fleet {
    let functions = tempfile::tempdir().unwrap();
    let wait =
        "const wait = new URL(request.url).searchParams.get('ms'); await new Promise((done) => setTimeout(done, wait))";
    let source = format!("export default {{ async fetch(request) {{ {wait}; return new Response('ok') }} }}");
    function(&functions.path().join("slow"), "", &[("index.js", &source)]);
    let more = vec!["--workers".to_owned(), "1".to_owned()];
    Fleet::with(&Options { functions: Some(functions.path().to_owned()), pops: "lhr=0", more, ..Options::default() })
}

/// The arguments of the container that runs `command`.
fn arguments<'a>(manifest: &'a str, command: &str) -> Vec<&'a str> {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != format!("- {command}"));
    assert!(lines.next().is_some(), "no container runs {command}");
    lines.map_while(|line| line.strip_prefix("- --")).collect()
}

#[tokio::test]
async fn every_flag_port_path_and_figure_of_the_manifests_is_one_of_the_program() {
    let (pop, origin, keda, hpa) =
        (manifest("pop.yaml"), manifest("origin.yaml"), manifest("keda.yaml"), manifest("hpa.yaml"));
    for (manifest, command) in [(&pop, "pop"), (&origin, "origin")] {
        let help = Command::new(skerry()).args([command, "--help"]).output().expect("skerry runs").stdout;
        let help = String::from_utf8(help).unwrap();
        let arguments = arguments(manifest, command);
        assert!(arguments.len() >= 4, "{arguments:?}");
        for argument in &arguments {
            let (flag, value) = argument.split_once('=').expect("a flag with a value");
            assert!(help.contains(&format!("--{flag} <")), "{command} knows no --{flag}");
            if ["listen", "admin"].contains(&flag) {
                let port = value.rsplit(':').next().unwrap();
                assert!(manifest.contains(&format!("containerPort: {port} }}")), "{port} is no port of {command}");
            }
            // The origin's own service, and ports that it has.
            if let Some((host, port)) = value.strip_prefix("http://").and_then(|address| address.split_once(':')) {
                assert!(values(&origin, "name").contains(&host), "{host} is nothing in origin.yaml");
                assert!(origin.contains(&format!("port: {port},")), "{port} is no port of {host}");
            }
        }
    }
    // Values are taken, too: the PoP runs with them, but for what must be a test's own.
    let own = ["city", "listen", "admin", "origin", "control", "token-file", "admin-token-file", "data"];
    let given: Vec<_> = arguments(&pop, "pop").into_iter().map(|argument| argument.split_once('=').unwrap()).collect();
    let flags: Vec<_> = given.iter().map(|(flag, value)| (format!("--{flag}"), *value)).collect();
    let more: Vec<_> = flags.iter().filter(|(flag, _)| !own.contains(&&flag[2..])).map(|(f, v)| (&**f, *v)).collect();
    assert!(more.contains(&("--workers", "2")), "{more:?}");
    let fleet = slow();
    let (admin, origin_address) = (tests::free_address(), fleet.origin());
    let metrics_token = fleet.folder.path().join("metrics-token");
    std::fs::write(&metrics_token, "reads").unwrap();
    let (admin_text, token_text) = (admin.to_string(), metrics_token.to_string_lossy().into_owned());
    let more = [more, vec![("--admin", &*admin_text), ("--admin-token-file", &*token_text)]].concat();
    let lone = Lone::before(origin_address, fleet, &more).await;

    // What KEDA asks: the path of its URL, with the token of its secret, and the figure that it looks for.
    let url: http::Uri = values(&keda, "url")[0].parse().unwrap();
    let (host, path) = (url.host().unwrap(), url.path());
    let (service, _) = host.split_once('.').unwrap();
    assert!(values(&pop, "name").contains(&service), "{service} is no service");
    assert!(pop.contains(&format!("name: admin, port: {},", url.port_u16().unwrap())));
    assert_eq!(get(admin, path, &[]).await.status, 401);
    let location = format!("/{}", values(&keda, "valueLocation")[0].replace('.', "/"));
    let read = async || {
        let reply = get(admin, path, &[("authorization", "Bearer reads")]).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json().pointer(&location).and_then(Value::as_f64).expect("a number where KEDA looks for one")
    };
    assert!(read().await < 1.0);
    let slow: Vec<_> = (0..40).map(|_| tokio::spawn(get(lone.address, "/slow?ms=3000", &[]))).collect();
    eventually("the load shows in it", async || read().await > 10.0).await;
    for reply in slow {
        assert_eq!(reply.await.unwrap().status, 200);
    }

    // Every metric that anything of this names is there.
    let page = get(admin, values(&pop, "prometheus.io/path")[0], &[("authorization", "Bearer reads")]).await.text();
    let adapter = manifest("prometheus-adapter.yaml");
    let named: Vec<&str> = [&hpa, &adapter, &keda, &pop]
        .into_iter()
        .flat_map(|text| text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .filter(|word| word.starts_with("skerry_"))
        .collect();
    assert!(named.len() >= 2, "{named:?}");
    for name in named {
        assert!(page.contains(&format!("# TYPE {name} gauge")), "{name} is no metric");
    }
    // Both autoscalers turn the same knob.
    for manifest in [&hpa, &keda] {
        assert!(manifest.contains("scaleTargetRef: { apiVersion: apps/v1, kind: StatefulSet, name: lhr }"));
    }
}

/// The validator, or a loud word that this machine has none; with `CI` set, having none is a failure.
fn validator() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join(".tools/venv/bin");
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(workspace).chain(std::env::split_paths(&on_path));
    let found = folders.map(|folder| folder.join("kubernetes-validate")).find(|program| program.is_file());
    if found.is_none() {
        let missing = "no `kubernetes-validate`: `make test` installs it, or pip install kubernetes-validate";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        // Past the test harness, which swallows what passing tests print.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: manifests were not held against Kubernetes' schemas: {missing}\n"),
        );
    }
    found
}

#[test]
fn the_manifests_are_as_the_schemas_of_kubernetes_want_them() {
    let Some(program) = validator() else { return };
    let validate = |file: &Path| Command::new(&program).arg("--strict").arg(file).output().expect("it runs");
    for name in ["origin.yaml", "pop.yaml", "hpa.yaml"] {
        let output = validate(&folder().join(name));
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let passed = text.lines().filter(|line| line.contains(" passed for resource ")).count();
        assert!(output.status.success() && passed == values(&manifest(name), "kind").len(), "{name}: {text}");
    }
    // It would not pass just anything.
    let wrong = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(wrong.path(), manifest("hpa.yaml").replace("maxReplicas: 20", "mostReplicas: 20")).unwrap();
    assert!(!validate(wrong.path()).status.success());
}
