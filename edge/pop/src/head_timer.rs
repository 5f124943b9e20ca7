//! The clock of hyper's bound on the time for a request's head.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// Timers that are only looked at: they wake nobody, so that setting one for every request costs next to nothing. The
/// connection's [`Patient`](origin::patient::Patient) stream wakes it every [`TICK`](origin::patient::TICK), and by no
/// more than that a timer is late.
pub(crate) struct HeadTimer;

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until(deadline))
    }
}

struct Until(Instant);

impl Sleep for Until {}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0 <= Instant::now() { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use origin::patient::Patient;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_head_that_comes_byte_by_byte_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let io = TokioIo::new(Patient::new(listener.accept().await.unwrap().0, Duration::from_secs(1)));
        let service = service_fn(async |_| Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new())));
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(HeadTimer).header_read_timeout(Duration::from_millis(100));
        let endless = async {
            client.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            ended = builder.serve_connection(io, service) => assert!(ended.unwrap_err().is_timeout()),
            () = endless => panic!("the client was cut off before the server gave up"),
        }
    }

    #[tokio::test]
    async fn a_silent_connection_is_given_up_at_a_tick() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let io = TokioIo::new(Patient::new(listener.accept().await.unwrap().0, Duration::from_millis(400)));
        let service = service_fn(async |_| Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new())));
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(HeadTimer).header_read_timeout(Duration::from_millis(50));
        assert!(builder.serve_connection(io, service).await.unwrap_err().is_timeout());
    }
}
