//! The access log: who asked for what, and what came of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::Method;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::harness::Origin;

type Line = BTreeMap<&'static str, String>;

/// Keeps the lines of the target `access`.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Line>>>);

struct Fields(Line);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "access"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(Line::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn each_request_is_one_line_with_the_subject_it_came_for() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let origin = Origin::start().await;
    origin.deploy("site", &[("/a", b"four")]).await;
    origin.get("/a", &[("x-skerry-subject", "alice"), ("x-request-id", "r-1")]).await;
    origin.get("/nothing", &[]).await;
    origin.public(Method::HEAD, "/a", &[]).await;
    origin.stop().await;
    let lines = lines.0.lock().unwrap();
    let of = |name: &str| lines.iter().map(|l| l.get(name).map_or("", String::as_str)).collect::<Vec<_>>();
    assert_eq!(of("path"), ["/a", "/nothing", "/a"]);
    assert_eq!(of("method"), ["GET", "GET", "HEAD"]);
    assert_eq!(of("status"), ["200", "404", "200"]);
    assert_eq!((of("bytes")[0], of("bytes")[2]), ("4", "0"));
    assert_eq!(of("subject"), ["alice", "", ""]);
    assert_eq!(of("request_id")[0], "r-1");
    assert!(!of("request_id")[1].is_empty() && of("request_id")[1] != of("request_id")[2]);
    assert_eq!(of("cut"), ["false"; 3]);
}
