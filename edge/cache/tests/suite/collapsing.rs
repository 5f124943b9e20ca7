//! Many clients, one origin request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cache::{Bypass, Config, Outcome};
use futures::channel::oneshot;
use futures::future::join_all;
use http_body_util::BodyExt;
use tokio::task::JoinHandle;

use crate::support::*;

const URI: &str = "http://example.com/a";

/// Starts a request whose origin answers when the test says so.
fn start(
    world: &World,
    request: http::Request<()>,
) -> (oneshot::Sender<FromOrigin>, JoinHandle<Result<Answer, String>>) {
    let (sender, answer) = oneshot::channel::<FromOrigin>();
    let world = world.clone();
    let client = tokio::spawn(async move {
        let response = world.run(request, |_| async { answer.await.unwrap_or_else(|_| Err(unreachable())) }).await;
        match response {
            Ok(response) => Ok(read(response).await),
            Err(failure) => Err(failure.to_string()),
        }
    });
    (sender, client)
}

#[tokio::test]
async fn a_thousand_clients_on_a_cold_key_are_one_origin_request() {
    let world = World::new();
    let (origin, leader) = start(&world, get(URI));
    quiet().await;
    let followers: Vec<_> = (0..999).map(|_| start(&world, get(URI))).collect();
    quiet().await;
    assert!(origin.send(Reply::fresh("hello").send()).is_ok());
    assert_eq!(leader.await.unwrap().unwrap().outcome, Outcome::Miss);
    for (_origin, follower) in followers {
        let answer = follower.await.unwrap().unwrap();
        assert_eq!((answer.text(), answer.outcome, answer.header("age")), ("hello", Outcome::Collapsed, "0"));
        assert_eq!(answer.cache_status(), "lhr; fwd=uri-miss; fwd-status=200; ttl=60; stored; collapsed");
    }
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn followers_get_bytes_while_the_leader_still_receives() {
    let world = World::new();
    let (sender, response) = Reply::fresh("").stream();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    sender.send("one ");
    quiet().await;
    let follower = world.run(get(URI), |_| async { Reply::never().send() }).await.unwrap();
    let mut body = follower.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
    sender.send("two");
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    drop(sender);
    assert!(body.frame().await.is_none());
    assert_eq!(read(leader).await.text(), "one two");
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_follower_can_have_a_range_of_what_still_arrives() {
    let world = World::new();
    let (sender, response) = Reply::fresh("").with("content-length", "10").stream();
    let _leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    let follower =
        world.run(get_with(URI, &[("range", "bytes=3-5")]), |_| async { Reply::never().send() }).await.unwrap();
    sender.send("01234");
    sender.send("56789");
    drop(sender);
    let answer = read(follower).await;
    assert_eq!((answer.status, answer.text(), answer.header("content-range")), (206, "345", "bytes 3-5/10"));
}

#[tokio::test]
async fn a_fill_goes_on_when_its_leader_goes_away() {
    let world = World::new();
    let (origin, leader) = start(&world, get(URI));
    quiet().await;
    let (_unused, follower) = start(&world, get(URI));
    quiet().await;
    leader.abort();
    quiet().await;
    assert!(origin.send(Reply::fresh("hello").send()).is_ok());
    assert_eq!(follower.await.unwrap().unwrap().text(), "hello");
    assert_eq!(world.get(URI, Reply::never()).await.outcome, Outcome::Hit);
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_leader_that_goes_away_in_the_middle_of_the_body_changes_nothing() {
    let world = World::new();
    let (sender, response) = Reply::fresh("").stream();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    sender.send("hel");
    drop(leader);
    sender.send("lo");
    drop(sender);
    world.settled().await;
    assert_eq!(world.get(URI, Reply::never()).await.text(), "hello");
}

#[tokio::test]
async fn a_leader_that_fails_hands_over_to_one_follower() {
    let world = World::new();
    let (origin, leader) = start(&world, get(URI));
    quiet().await;
    let followers: Vec<_> = (0..10).map(|_| start(&world, get(URI))).collect();
    quiet().await;
    assert!(origin.send(Err(unreachable())).is_ok());
    assert!(leader.await.unwrap().is_err());
    quiet().await;
    assert_eq!(world.asked(), 2, "one follower asks, the others wait for it");
    let mut outcomes = Vec::new();
    let (origins, clients): (Vec<_>, Vec<_>) = followers.into_iter().unzip();
    for origin in origins {
        let _ = origin.send(Reply::fresh("second try").send());
    }
    for client in clients {
        let answer = client.await.unwrap().unwrap();
        assert_eq!(answer.text(), "second try");
        outcomes.push(answer.outcome);
    }
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Miss).count(), 1);
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn an_origin_that_is_down_is_asked_twice_however_many_wait() {
    let world = World::new();
    let (origin, leader) = start(&world, get(URI));
    quiet().await;
    let (origins, clients): (Vec<_>, Vec<_>) = (0..10).map(|_| start(&world, get(URI))).unzip();
    quiet().await;
    drop(origin);
    assert!(leader.await.unwrap().is_err());
    drop(origins);
    for client in clients {
        assert!(client.await.unwrap().is_err());
    }
    assert_eq!(world.asked(), 2);
    assert_eq!(world.cache.fills(), 0);
}

#[tokio::test]
async fn a_leader_that_panics_hands_over_too() {
    let world = World::new();
    let (started, wait) = oneshot::channel::<()>();
    let other = world.clone();
    let leader = tokio::spawn(async move {
        other
            .run(get(URI), |_| async { wait.await.map_err(|_| unreachable()).map(|()| panic!("a bug")) })
            .await
            .map(drop)
    });
    quiet().await;
    let (origin, follower) = start(&world, get(URI));
    quiet().await;
    assert!(started.send(()).is_ok());
    assert!(leader.await.unwrap().is_err());
    assert!(origin.send(Reply::fresh("fine").send()).is_ok());
    assert_eq!(follower.await.unwrap().unwrap().text(), "fine");
}

#[tokio::test]
async fn an_answer_that_cannot_be_shared_does_not_serialise_those_who_wait() {
    let world = World::new();
    let (origin, leader) = start(&world, get(URI));
    quiet().await;
    let (origins, clients): (Vec<_>, Vec<_>) = (0..10).map(|_| start(&world, get(URI))).unzip();
    quiet().await;
    assert_eq!(world.asked(), 1);
    assert!(origin.send(Reply::fresh("mine").with("set-cookie", "id=0").send()).is_ok());
    assert_eq!(leader.await.unwrap().unwrap().text(), "mine");
    quiet().await;
    assert_eq!(world.asked(), 11, "all ask at once");
    // And for a while nobody waits for anybody.
    let (late_origin, late) = start(&world, get(URI));
    let (later_origin, later) = start(&world, get(URI));
    quiet().await;
    assert_eq!(world.asked(), 13);
    for origin in origins.into_iter().chain([late_origin, later_origin]) {
        assert!(origin.send(Reply::fresh("mine").with("set-cookie", "id=1").send()).is_ok());
    }
    for client in clients.into_iter().chain([late, later]) {
        assert_eq!(client.await.unwrap().unwrap().header("set-cookie"), "id=1");
    }
}

#[tokio::test]
async fn what_was_unshareable_is_shared_again_when_it_turns_storable() {
    let world = World::new();
    world.get(URI, Reply::new(200, "x").with("cache-control", "no-store")).await;
    assert_eq!(world.get(URI, Reply::fresh("y")).await.outcome, Outcome::Miss);
    assert_eq!(world.get(URI, Reply::never()).await.outcome, Outcome::Hit);
}

#[tokio::test]
async fn requests_for_different_variants_do_not_get_each_others_answer() {
    let world = World::new();
    let in_language = |language| get_with(URI, &[("accept-language", language)]);
    let reply = |text: &'static str| Reply::fresh(text).with("vary", "accept-language").send();
    let (german, leader) = start(&world, in_language("de"));
    quiet().await;
    let (english, followers): (Vec<_>, Vec<_>) = (0..10).map(|_| start(&world, in_language("en"))).unzip();
    quiet().await;
    assert!(german.send(reply("deutsch")).is_ok());
    assert_eq!(leader.await.unwrap().unwrap().text(), "deutsch");
    for origin in english {
        let _ = origin.send(reply("english"));
    }
    for follower in followers {
        assert_eq!(follower.await.unwrap().unwrap().text(), "english");
    }
    assert_eq!(world.asked(), 2, "those who wait for the same variant wait together");
    // Now the cache knows what it varies by: different variants do not wait for each other.
    world.pass(61);
    let (german, first) = start(&world, in_language("de"));
    let (english, second) = start(&world, in_language("en"));
    quiet().await;
    assert_eq!(world.asked(), 4);
    assert!(english.send(reply("english")).is_ok());
    assert_eq!(second.await.unwrap().unwrap().text(), "english");
    assert!(german.send(reply("deutsch")).is_ok());
    assert_eq!(first.await.unwrap().unwrap().text(), "deutsch");
}

#[tokio::test]
async fn followers_share_a_validation() {
    let world = World::new();
    world.get(URI, Reply::fresh("same").with("etag", "\"1\"")).await;
    world.pass(61);
    let (origin, leader) = start(&world, get(URI));
    quiet().await;
    let (_unused, follower) = start(&world, get(URI));
    quiet().await;
    assert!(origin.send(Reply::new(304, "").send()).is_ok());
    assert_eq!(leader.await.unwrap().unwrap().outcome, Outcome::Revalidated);
    let follower = follower.await.unwrap().unwrap();
    assert_eq!((follower.text(), follower.outcome), ("same", Outcome::Collapsed));
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn an_authorized_request_is_nobodys_leader() {
    let world = World::new();
    let (mine, authorized) = start(&world, get_with(URI, &[("authorization", "Bearer x")]));
    quiet().await;
    assert_eq!(world.get(URI, Reply::fresh("anyone's")).await.outcome, Outcome::Miss);
    assert!(mine.send(Reply::fresh("mine").send()).is_ok());
    assert_eq!(authorized.await.unwrap().unwrap().text(), "mine");
    assert_eq!(world.get(URI, Reply::never()).await.text(), "anyone's");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hangs_does_not_hold_its_followers_for_ever() {
    let world = World::new();
    let (_never, _leader) = start(&world, get(URI));
    quiet().await;
    let (origin, follower) = start(&world, get(URI));
    assert!(origin.send(Reply::fresh("mine").send()).is_ok());
    assert_eq!(follower.await.unwrap().unwrap().text(), "mine");
    assert_eq!(world.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_a_leader_hangs_one_follower_asks_anew_and_the_others_follow_it() {
    let world = World::new();
    let (_never, _leader) = start(&world, get(URI));
    quiet().await;
    let (origins, clients): (Vec<_>, Vec<_>) = (0..10).map(|_| start(&world, get(URI))).unzip();
    quiet().await;
    tokio::time::advance(Config::default().follower_wait).await;
    quiet().await;
    assert_eq!(world.asked(), 2);
    for origin in origins {
        let _ = origin.send(Reply::fresh("second try").send());
    }
    for client in clients {
        assert_eq!(client.await.unwrap().unwrap().text(), "second try");
    }
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn too_many_fills_are_passed_on_instead() {
    let world = World::with(Config { max_fills: 1, ..Config::default() });
    let (origin, leader) = start(&world, get(URI));
    quiet().await;
    let passed = world.get("http://example.com/b", Reply::fresh("x")).await;
    assert_eq!(passed.cache_status(), "lhr; fwd=bypass; fwd-status=200; detail=overload");
    assert!(origin.send(Reply::fresh("y").send()).is_ok());
    assert_eq!(leader.await.unwrap().unwrap().text(), "y");
}

/// Runs a future on a thread with a runtime of its own, as a worker of a PoP does.
fn on_a_worker<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    })
}

#[test]
fn workers_on_two_threads_share_one_origin_request_and_its_bytes() {
    let world = World::new();
    let size = 300 * 1000;
    let origins = Arc::new(AtomicUsize::new(0));
    let client = |world: World, origins: Arc<AtomicUsize>| async move {
        let ask = || async {
            let origins = origins.clone();
            let response = world.run(get(URI), move |_| async move {
                origins.fetch_add(1, Ordering::SeqCst);
                let (sender, response) = Reply::fresh("").with("content-length", &size.to_string()).stream();
                tokio::spawn(async move {
                    for _ in 0..300 {
                        sender.send(vec![b'x'; 1000]);
                        tokio::task::yield_now().await;
                    }
                });
                Ok(response)
            });
            read(response.await.unwrap()).await
        };
        // The runtime must outlive what it leads: followers of another thread depend on it.
        let answers = join_all((0..50).map(|_| ask())).await;
        world.settled().await;
        answers
    };
    let workers = [0, 1].map(|_| on_a_worker(client(world.clone(), origins.clone())));
    for worker in workers {
        for answer in worker.join().unwrap() {
            assert_eq!(answer.text().len(), size);
        }
    }
    assert_eq!(origins.load(Ordering::SeqCst), 1);
}

#[test]
fn a_worker_that_stops_in_the_middle_leaves_an_error_to_its_followers_and_nothing_else() {
    let world = World::new();
    let (sender, response) = Reply::fresh("").stream();
    let leading = world.clone();
    let (ready, led) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let leader = on_a_worker(async move {
        let _response = leading.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
        sender.send("half");
        quiet().await;
        ready.send(()).unwrap();
        let _ = stopped.await;
        sender
    });
    led.recv().unwrap();
    let following = world.clone();
    let follower = on_a_worker(async move {
        let response = following.run(get(URI), |_| async { Reply::never().send() }).await.unwrap();
        drop(stop);
        read(response).await
    });
    assert!(follower.join().unwrap().body.is_err());
    drop(leader.join().unwrap());
    assert_eq!(world.cache.fills(), 0);
    assert_eq!(world.cache.fill_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_origin_is_asked_once_however_many_wait() {
    let world = World::new();
    let (origin, leader) = start(&world, get(URI));
    quiet().await;
    let (_origins, clients): (Vec<_>, Vec<_>) = (0..100).map(|_| start(&world, get(URI))).unzip();
    // Just within the 30 s that a PoP gives an origin.
    tokio::time::sleep(std::time::Duration::from_secs(29)).await;
    assert_eq!(world.asked(), 1);
    assert!(origin.send(Reply::fresh("late").send()).is_ok());
    assert_eq!(leader.await.unwrap().unwrap().text(), "late");
    for client in clients {
        assert_eq!(client.await.unwrap().unwrap().text(), "late");
    }
    assert_eq!(world.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_never_answers_is_asked_twice_however_many_wait() {
    let world = World::new();
    let (_origin, _leader) = start(&world, get(URI));
    quiet().await;
    let (_origins, clients): (Vec<_>, Vec<_>) = (0..100).map(|_| start(&world, get(URI))).unzip();
    quiet().await;
    tokio::time::sleep(3 * Config::default().follower_wait).await;
    assert_eq!(world.asked(), 2);
    let mut told = 0;
    for client in clients.into_iter().filter(JoinHandle::is_finished) {
        assert!(client.await.unwrap().unwrap_err().contains("origin-timed-out"));
        told += 1;
    }
    assert_eq!(told, 99, "all but the second leader");
}

#[tokio::test]
async fn an_origin_in_trouble_is_asked_twice_however_many_wait() {
    let world = World::new();
    let (origin, leader) = start(&world, get(URI));
    quiet().await;
    let (origins, clients): (Vec<_>, Vec<_>) = (0..100).map(|_| start(&world, get(URI))).unzip();
    quiet().await;
    let busy = || Reply::new(503, "secret of one client").with("set-cookie", "id=1").send();
    assert!(origin.send(busy()).is_ok());
    assert_eq!(leader.await.unwrap().unwrap().text(), "secret of one client");
    quiet().await;
    assert_eq!(world.asked(), 2, "one follower asks, the others wait for it");
    for origin in origins {
        let _ = origin.send(busy());
    }
    let mut shared = 0;
    for client in clients {
        let answer = client.await.unwrap().unwrap();
        assert_eq!(answer.status, 503);
        if answer.outcome == Outcome::Collapsed {
            assert_eq!((answer.text(), answer.header("set-cookie")), ("", ""), "the status is all that is shared");
            assert_eq!(answer.cache_status(), "lhr; fwd=uri-miss; fwd-status=503; collapsed");
            shared += 1;
        }
    }
    assert_eq!((world.asked(), shared), (2, 99));
}

#[tokio::test]
async fn fills_are_bounded_also_while_their_uri_is_invalidated() {
    let world = World::with(Config { max_fills: 2, ..Config::default() });
    let key = cache::Key::of_uri(&URI.parse().unwrap()).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(start(&world, get(URI)));
        quiet().await;
        world.cache.invalidate(&key);
    }
    assert_eq!(world.cache.fills(), 2, "purged, but still under way");
    let passed = world.get(URI, Reply::fresh("x")).await;
    assert_eq!(passed.outcome, Outcome::Bypass(Bypass::Overload));
    for (origin, client) in waiting {
        assert!(origin.send(Reply::fresh("y").send()).is_ok());
        assert_eq!(client.await.unwrap().unwrap().text(), "y");
    }
    world.settled().await;
    assert_eq!(world.get(URI, Reply::fresh("z")).await.outcome, Outcome::Miss);
}
