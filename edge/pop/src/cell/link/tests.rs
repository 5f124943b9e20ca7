//! Exchanges between two links over a real pair of sockets, and what a peer that keeps to nothing can do to one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, StreamBody};
use isolate::Body;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;

/// Answers with the question's message and body, or never.
struct Echo {
    never: bool,
    notes: RefCell<Vec<Vec<u8>>>,
}

impl Peer for Rc<Echo> {
    fn asked(&self, link: &Rc<Link>, question: Question) -> Result<(), Ended> {
        let (answering, never) = (Rc::clone(link), self.never);
        link.serve(question.exchange, async move {
            if never {
                std::future::pending::<()>().await;
            }
            answering.answer(question.exchange, &question.message, question.body);
        });
        Ok(())
    }

    fn told(&self, note: &[u8]) -> Result<(), Ended> {
        self.notes.borrow_mut().push(note.to_vec());
        Ok(())
    }
}

fn echo(never: bool) -> Rc<Echo> {
    Rc::new(Echo { never, notes: RefCell::default() })
}

/// Two links that run, the PoP's first.
fn pair(peer: &Rc<Echo>) -> [Rc<Link>; 2] {
    let (one, other) = UnixStream::pair().unwrap();
    [(Side::Pop, one), (Side::Cell, other)].map(|(side, socket)| {
        let (link, peer) = (Link::new(side), Rc::clone(peer));
        let running = Rc::clone(&link);
        isolate::spawn_local(async move {
            running.run(socket, &peer).await;
            running.end();
        });
        link
    })
}

/// A body of these parts, and how many of them were taken.
fn parts(parts: Vec<Bytes>) -> (Body, Arc<AtomicUsize>) {
    let taken = Arc::<AtomicUsize>::default();
    let counting = Arc::clone(&taken);
    let parts = parts.into_iter().map(move |part| {
        counting.fetch_add(1, Ordering::Relaxed);
        Ok(http_body::Frame::data(part))
    });
    (Box::pin(StreamBody::new(futures::stream::iter(parts))), taken)
}

/// Exchanges that a link still knows of.
fn known(link: &Link) -> usize {
    let arriving = lock(&link.arriving).len();
    link.awaited.borrow().len() + link.serving.borrow().len() + link.leaving.borrow().len() + arriving
}

async fn forgotten(links: &[Rc<Link>; 2]) {
    for _ in 0..200 {
        if links.iter().all(|link| known(link) == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("exchanges are left: {:?}", links.each_ref().map(|link| known(link)));
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_body_comes_back_whole_and_nothing_of_it_is_left(
        bodies in prop::collection::vec(prop::option::of(prop::collection::vec(0_usize..100_000, 0..6)), 1..12),
    ) {
        run(async {
            let links = pair(&echo(false));
            let asking = bodies.iter().enumerate().map(|(n, sizes)| {
                // From both sides at once.
                let link = &links[n % 2];
                async move {
                    let content = |size: &usize| Bytes::from(vec![n as u8 ^ *size as u8; *size]);
                    let sent = sizes.as_ref().map(|sizes| sizes.iter().map(content).collect::<Vec<_>>());
                    let whole = sent.as_ref().map_or_else(Vec::new, |parts| parts.concat());
                    let body = sent.map(|sent| parts(sent).0);
                    let answer = link.ask(link.number(), &[n as u8], body).await.unwrap();
                    assert_eq!(*answer.message, [n as u8]);
                    let back = match answer.body {
                        Some(body) => body.collect().await.unwrap().to_bytes(),
                        None => Bytes::new(),
                    };
                    assert!(back == whole, "{n}: {} bytes of {}", back.len(), whole.len());
                }
            });
            futures::future::join_all(asking).await;
            forgotten(&links).await;
        });
    }

    #[test]
    fn whatever_a_peer_sends_the_link_ends_or_goes_on_and_takes_little(
        frames in prop::collection::vec((0_u8..14, 0_u64..6, prop::collection::vec(any::<u8>(), 0..40)), 0..60),
        torn in 0_usize..12,
    ) {
        run(async {
            let (own, mut theirs) = UnixStream::pair().unwrap();
            let link = Link::new(Side::Pop);
            let peer = echo(false);
            // One question is under way, so that answers have something to hit.
            let asking = link.ask(link.number(), b"question", Some(parts(vec![Bytes::from_static(b"body")]).0));
            let sending = async move {
                for (kind, exchange, payload) in frames {
                    let length = u32::try_from(9 + payload.len()).unwrap().to_le_bytes();
                    let frame = [&length[..], &[kind], &exchange.to_le_bytes(), &payload].concat();
                    if theirs.write_all(&frame).await.is_err() {
                        return;
                    }
                }
                let _ = theirs.write_all(&vec![7; torn]).await;
            };
            let running = async {
                let ended = link.run(own, &peer).await;
                link.end();
                ended
            };
            let all = async { tokio::join!(asking, sending, running) };
            let (_, (), ended) = tokio::time::timeout(Duration::from_secs(5), all).await.expect("it ends");
            assert!(matches!(ended, Ended::Closed | Ended::Misconduct(_)));
            drop(link);
        });
    }
}

#[test]
fn a_body_that_nobody_reads_stops_at_the_window() {
    run(async {
        let links = pair(&echo(false));
        let (body, taken) = parts(vec![Bytes::from(vec![1; 10_000]); 1000]);
        let answer = links[0].ask(links[0].number(), b"", Some(body)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The window of each way, and what is in hand.
        let most = 2 * WINDOW / 10_000 + 4;
        assert!((2..=most).contains(&taken.load(Ordering::Relaxed)), "{} parts", taken.load(Ordering::Relaxed));
        // Who has lost interest stops the sender on the other side, and that one this.
        drop(answer);
        forgotten(&links).await;
        assert!(taken.load(Ordering::Relaxed) <= most);
    });
}

#[test]
fn a_question_that_nobody_waits_for_is_given_up_on_the_other_side() {
    run(async {
        let links = pair(&echo(true));
        let (body, _) = parts(vec![Bytes::from(vec![1; 100_000]); 10]);
        let asking = links[0].ask(links[0].number(), b"", Some(body));
        assert!(tokio::time::timeout(Duration::from_millis(50), asking).await.is_err());
        forgotten(&links).await;
    });
}

#[test]
fn more_of_a_body_than_was_asked_for_ends_the_link() {
    run(async {
        let (own, mut theirs) = UnixStream::pair().unwrap();
        let link = Link::new(Side::Pop);
        let sending = async {
            let unknown = [&0_u64.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
            let mut frames = frame(Kind::OpenWithBody, &unknown);
            for _ in 0..=WINDOW / PART {
                frames.extend(frame(Kind::Data, &vec![0; PART]));
            }
            let _ = theirs.write_all(&frames).await;
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = async { link.run(own, &echo(true)).await } => ended,
            () = sending => unreachable!(),
        };
        assert_eq!(ended, BEYOND);
    });
}

#[test]
fn what_is_under_way_fails_when_the_peer_ends() {
    run(async {
        let links = pair(&echo(false));
        let (body, _) = parts(vec![Bytes::from(vec![1; 100_000]); 10]);
        let answer = links[0].ask(links[0].number(), b"", Some(body)).await.unwrap();
        links[1].end();
        links[0].end();
        assert!(answer.body.unwrap().collect().await.is_err(), "a body that is cut off does not look whole");
        assert!(links[0].ask(links[0].number(), b"", None::<Full<Bytes>>.map(never)).await.is_err());
    });
}

fn never(body: Full<Bytes>) -> Body {
    Box::pin(body.map_err(|never| match never {}))
}

/// A frame of the cell's first exchange.
fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(9 + payload.len()).unwrap().to_le_bytes();
    [&length[..], &[kind as u8], &1_u64.to_le_bytes(), payload].concat()
}
