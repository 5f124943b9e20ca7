//! Any history of requests, answers, failures and pauses: whatever a client gets, the RFCs must have allowed it.

use std::sync::{Arc, Mutex};

use cache::OriginFailure;
use http::Method;
use http::request::Parts;
use proptest::prelude::*;

use crate::support::*;

#[derive(Debug, Clone)]
struct Step {
    pause: u64,
    uri: usize,
    variant: Option<usize>,
    client: Client,
    origin: Origin,
    control: usize,
    vary: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Client {
    Get,
    Range,
    Condition,
    Authorized,
    Head,
    Post,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Origin {
    Answers,
    /// Answers 304 when asked by condition.
    Confirms,
    Errs,
    Fails,
    BreaksOff,
}

/// A response policy: the field, whether it may be shared, with whom, how long, and how long stale in which case.
struct Policy {
    field: (&'static str, &'static str),
    shared: bool,
    authorized: bool,
    lifetime: u64,
    while_revalidating: u64,
    on_error: u64,
}

const POLICIES: [Policy; 9] = [
    policy("cache-control", "max-age=10", 10, 0, 0),
    policy("cache-control", "max-age=10, stale-while-revalidate=10", 10, 10, 0),
    policy("cache-control", "max-age=10, stale-if-error=20", 10, 0, 20),
    Policy { authorized: true, ..policy("cache-control", "s-maxage=5, max-age=50, stale-if-error=20", 5, 0, 0) },
    Policy { authorized: true, ..policy("cache-control", "public, max-age=10", 10, 0, 0) },
    policy("cache-control", "no-cache, max-age=10", 0, 0, 0),
    policy("cdn-cache-control", "max-age=7", 7, 0, 0),
    Policy { shared: false, ..policy("cache-control", "no-store", 0, 0, 0) },
    Policy { shared: false, ..policy("cache-control", "max-age=10, private", 0, 0, 0) },
];

const fn policy(name: &'static str, value: &'static str, lifetime: u64, swr: u64, sie: u64) -> Policy {
    let (while_revalidating, on_error) = (swr, sie);
    Policy { field: (name, value), shared: true, authorized: false, lifetime, while_revalidating, on_error }
}

/// A response that the origin made.
#[derive(Debug, Clone)]
struct Made {
    body: String,
    step: usize,
    uri: usize,
    variant: Option<usize>,
    varies: bool,
    control: usize,
    authorized: bool,
    whole: bool,
    /// When it was made or last confirmed.
    time: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let client = prop_oneof![
        6 => Just(Client::Get), 1 => Just(Client::Range), 1 => Just(Client::Condition), 1 => Just(Client::Authorized),
        1 => Just(Client::Head), 1 => Just(Client::Post),
    ];
    let origin = prop_oneof![
        4 => Just(Origin::Answers), 3 => Just(Origin::Confirms), 1 => Just(Origin::Errs), 1 => Just(Origin::Fails),
        1 => Just(Origin::BreaksOff),
    ];
    (0u64..8, 0usize..2, proptest::option::of(0usize..2), client, origin, 0..POLICIES.len(), any::<bool>()).prop_map(
        |(pause, uri, variant, client, origin, control, vary)| Step {
            pause,
            uri,
            variant,
            client,
            origin,
            control,
            vary,
        },
    )
}

fn request_of(step: &Step) -> http::Request<()> {
    let variant = step.variant.map(|variant| variant.to_string());
    let mut headers: Vec<(&str, &str)> = variant.iter().map(|variant| ("x-variant", variant.as_str())).collect();
    let method = match step.client {
        Client::Post => Method::POST,
        Client::Head => Method::HEAD,
        _ => Method::GET,
    };
    match step.client {
        Client::Range => headers.push(("range", "bytes=0-1")),
        Client::Condition => headers.push(("if-none-match", "\"none\"")),
        Client::Authorized => headers.push(("authorization", "x")),
        _ => {}
    }
    request(method, &format!("http://example.com/{}", step.uri), &headers)
}

/// The origin's answer, which it remembers.
fn answer(step: &Step, number: usize, now: u64, asked: &Parts, made: &Mutex<Vec<Made>>) -> FromOrigin {
    let mut made = made.lock().unwrap();
    match step.origin {
        Origin::Errs => return Reply::new(503, "error").send(),
        Origin::Fails => return Err(OriginFailure::new(cache::FailureKind::TimedOut, "late")),
        Origin::Confirms => {
            let tag = asked.headers.get("if-none-match").map(|tag| tag.to_str().unwrap().trim_matches('"').to_owned());
            if let Some(known) = made.iter_mut().find(|made| Some(&made.body) == tag.as_ref() && made.uri == step.uri) {
                known.time = now;
                return Reply::new(304, "").with("etag", &format!("\"{}\"", known.body)).send();
            }
        }
        Origin::Answers | Origin::BreaksOff => {}
    }
    let whole = step.origin != Origin::BreaksOff;
    let body = format!("body-{number:04}");
    let (name, value) = POLICIES[step.control].field;
    let mut reply = Reply::new(200, body.clone()).with(name, value).with("etag", &format!("\"{body}\""));
    if step.vary {
        reply = reply.with("vary", "x-variant");
    }
    made.push(Made {
        body: body.clone(),
        step: number,
        uri: step.uri,
        variant: step.variant,
        varies: step.vary,
        control: step.control,
        authorized: step.client == Client::Authorized,
        whole,
        time: now,
    });
    if whole {
        return reply.send();
    }
    let (sender, response) = reply.stream();
    sender.send(body);
    sender.fail();
    Ok(response)
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let world = World::new();
    let made: Arc<Mutex<Vec<Made>>> = Arc::default();
    let (mut now, mut invalidated) = (0, [0usize; 2]);
    for (number, step) in steps.iter().enumerate() {
        let number = number + 1;
        now += step.pause;
        world.pass(step.pause);
        let before = made.lock().unwrap().clone();
        let (origin_step, seen) = (step.clone(), Arc::clone(&made));
        let asked_before = world.asked();
        let response = world
            .run(request_of(step), move |asked| async move { answer(&origin_step, number, now, &asked, &seen) })
            .await;
        let response = match response {
            Ok(response) => read(response).await,
            Err(_) => {
                prop_assert_eq!(step.origin, Origin::Fails);
                continue;
            }
        };
        world.settled().await;
        prop_assert!(world.asked() <= asked_before + 1, "at most one origin request");
        if step.client == Client::Post && !matches!(step.origin, Origin::Errs | Origin::Fails) {
            invalidated[step.uri] = number;
        }
        let Ok(body) = &response.body else {
            prop_assert_eq!(step.origin, Origin::BreaksOff);
            continue;
        };
        if !matches!(response.status, 200 | 206) || body.is_empty() {
            continue;
        }
        let tag = response.header("etag").trim_matches('"');
        prop_assert_eq!(body, &tag[..body.len()], "body and head belong together");
        let asked = world.asked() > asked_before;
        check(step, number, now, tag, &before, &made.lock().unwrap(), invalidated, asked)?;
    }
    prop_assert_eq!((world.cache.fills(), world.cache.fill_bytes()), (0, 0));
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the whole state of the model")]
fn check(
    step: &Step,
    number: usize,
    now: u64,
    tag: &str,
    before: &[Made],
    after: &[Made],
    invalidated: [usize; 2],
    asked: bool,
) -> Result<(), TestCaseError> {
    let Some(old) = before.iter().find(|made| made.body == tag) else {
        // Made for this very request.
        prop_assert_eq!(after.last().map(|made| made.step), Some(number));
        return Ok(());
    };
    let policy = &POLICIES[old.control];
    prop_assert!(old.whole && policy.shared, "{:?} must not be shared", old);
    prop_assert_eq!(old.uri, step.uri);
    prop_assert!(!old.varies || old.variant == step.variant, "{:?} is another variant", old);
    prop_assert!(!old.authorized || policy.authorized, "{:?} was for one client", old);
    prop_assert!(old.step > invalidated[step.uri], "{:?} was invalidated", old);
    let confirmed = after.iter().any(|made| made.body == tag && made.time == now);
    let failing = asked && matches!(step.origin, Origin::Errs | Origin::Fails);
    let stale = if failing { policy.on_error.max(policy.while_revalidating) } else { policy.while_revalidating };
    let age = now - old.time;
    let in_time = age < policy.lifetime || (stale > 0 && age <= policy.lifetime + stale);
    prop_assert!(confirmed || in_time, "{:?} is {} s old", old, age);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_history_makes_the_cache_send_what_the_rfcs_forbid(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps))?;
    }
}
