//! Many clients, one request to the origin.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tests::lone::HOSTS;
use tests::{Lone, Stub};

const CONNECTIONS: usize = 50;
/// Requests over each connection at a time; a PoP takes up to 256.
const STREAMS: usize = 200;

#[tokio::test]
async fn ten_thousand_clients_of_one_cold_page_are_one_request_to_the_origin() {
    let answer = |_: &_| Response::builder().header("cache-control", "max-age=60").body("x".repeat(10_000)).unwrap();
    let origin = Stub::after(Duration::from_secs(3), answer).await;
    let pop = Lone::for_all(origin.address, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = tokio::net::TcpStream::connect(pop.address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..STREAMS {
            let mut sender = sender.clone();
            clients.push(tokio::spawn(async move {
                let uri = format!("http://{}/page", HOSTS[1]);
                let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
                sender.ready().await.unwrap();
                let response = sender.send_request(request).await.unwrap();
                (response.status(), response.into_body().collect().await.unwrap().to_bytes().len())
            }));
        }
    }
    for client in clients {
        let (status, length) = client.await.unwrap();
        assert_eq!((status.as_u16(), length), (200, 10_000));
    }
    assert_eq!(origin.seen.lock().unwrap().len(), 1);
}
