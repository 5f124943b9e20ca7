use super::*;

#[test]
fn probe() {
    let source = std::fs::read_to_string("/tmp/w/probe.js").unwrap();
    with_worker(|worker| async move {
        for (n, body) in source.split("\n----\n").enumerate() {
            let program = handler_with(body, &[("cpu_ms", 20_000)]);
            let began = std::time::Instant::now();
            match ask(&worker, &program, request("POST", "/path?q=1", "hello")).await {
                Ok(a) => println!("{n}: {} {:?} {:?} log {:?} {:?}", a.status, a.headers, a.body, a.log, began.elapsed()),
                Err(f) => println!("{n}: FAULT {} {:?}", f.fault, began.elapsed()),
            }
        }
    });
}
