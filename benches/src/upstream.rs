//! The server that functions fetch from: on the load's core, in this process, and as cheap as it can be, so that what is
//! measured is the platform between it and the client.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::Failure;
use crate::connection::Connection;
use crate::flow::Flow;

/// Bytes of the small answer.
pub(crate) const SMALL_BYTES: usize = 1 << 10;

/// A running one. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _end: oneshot::Sender<()>,
}

impl Upstream {
    /// Starts one. It answers `/down…` with the body of `flow`, and anything else with [`SMALL_BYTES`]; no
    /// cache may keep either. It takes the body of a request as slowly as `flow` says.
    ///
    /// # Errors
    /// When there is no port or thread for it.
    pub(crate) fn start(flow: &Arc<Flow>) -> Result<Self, Failure> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel::<()>();
        let flow = Arc::clone(flow);
        // It inherits the core of the thread that generates the load.
        std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            runtime.block_on(LocalSet::new().run_until(async {
                tokio::select! {
                    () = accept(listener, flow) => {}
                    _ = ended => {}
                }
            }));
        })?;
        Ok(Self { address, _end: end })
    }
}

async fn accept(listener: std::net::TcpListener, flow: Arc<Flow>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    // What a connection ends with is seen at its other end, by the server that is measured.
    while let Ok((stream, _)) = listener.accept().await {
        let flow = Arc::clone(&flow);
        tokio::task::spawn_local(async move {
            let Ok(mut connection) = Connection::of(stream) else { return };
            while let Ok(true) = serve(&mut connection, &flow).await {}
        });
    }
}

/// Answers one request. Whether there was one.
async fn serve(connection: &mut Connection, flow: &Flow) -> std::io::Result<bool> {
    let Some(path) = connection.request(|_| (), async |bytes| flow.take(bytes.len()).await).await? else {
        return Ok(false);
    };
    let is_large = path.starts_with("/down");
    let length = if is_large { flow.length() } else { SMALL_BYTES as u64 };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\nContent-Length: {length}\r\n\r\n"
    );
    if !is_large {
        connection.send(&[head.as_bytes(), &[b'x'; SMALL_BYTES]].concat()).await?;
        return Ok(true);
    }
    connection.send(head.as_bytes()).await?;
    flow.give(connection).await?;
    Ok(true)
}
