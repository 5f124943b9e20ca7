use tests::{Fleet, get};

#[tokio::test]
async fn hello_comes_from_an_isolate_in_each_pop() {
    let fleet = Fleet::start();
    for pop in ["lhr", "iad", "nrt"] {
        let first = get(fleet.pop(pop), "/hello", &[]).await;
        assert_eq!(first.status, 200);
        assert_eq!(first.text(), format!("Hello from {}!\n", pop.to_uppercase()));
        assert_eq!(first.header("x-skerry-pop"), pop);
        let version = first.header("x-skerry-version");
        let digest = version.strip_prefix("hello@").expect("name@digest");
        assert!(digest.len() == 12 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{version}");
        assert!(first.header("x-request-id").len() >= 16);
        let timing = first.header("server-timing");
        for phase in ["route;dur=", "isolate;dur=", "function;dur="] {
            assert!(timing.contains(phase), "{timing}");
        }
    }
}

#[tokio::test]
async fn a_warm_isolate_answers_the_next_request_and_the_phases_say_so() {
    let fleet = Fleet::start();
    // Each worker thread has isolates of its own, so the first few connections may each meet a cold one.
    let mut timings = Vec::new();
    for _ in 0..30 {
        timings.push(get(fleet.pop("lhr"), "/hello", &[]).await.header("server-timing").to_owned());
    }
    assert!(timings[0].contains("isolate;dur="), "{timings:?}");
    assert!(!timings[29].contains("isolate;dur="), "{timings:?}");
    let site = get(fleet.pop("lhr"), "/site/logo.png", &[]).await;
    for phase in ["cache;desc=miss", "origin;dur="] {
        assert!(site.header("server-timing").contains(phase), "{}", site.header("server-timing"));
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_spoken() {
    let fleet = Fleet::start();
    for address in [fleet.pop("lhr"), fleet.front()] {
        let reply = tests::client::send_h2(address, "/hello").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "Hello from LHR!\n"));
    }
}
