//! A region node: it runs functions for the PoPs of its fleet, with bigger limits, and does nothing else.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::request::Parts;
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use origin::bundle::FunctionName;

use crate::capabilities::{self, Visit};
use crate::fault::Fault;
use crate::function::Function;
use crate::head;
use crate::outcome::{ClientBody, Record};
use crate::place;
use crate::request::{Ran, limited_body, run};
use crate::routes::Live;
use crate::trace::Trace;
use crate::upstream::{OWN, Sent, USED};
use crate::worker::Worker;

/// Runs a function for a PoP, which has found out whose request it is, and routed it.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    errand: Sent,
    mut head: Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<ClientBody>, Fault> {
    let state = &worker.state;
    record.request_id = HeaderValue::from_str(&errand.request_id).map_err(|_| Fault::Target("its id is none"))?;
    record.trace = errand.traced.then(|| Trace::of(&head.headers)).flatten();
    if state.draining.load(Ordering::Relaxed) {
        return Err(Fault::Draining);
    }
    let Some(most) = state.region.map(|region| region.at_a_time.div_ceil(state.metrics.workers.len())) else {
        // A PoP that another takes for a region node.
        return Err(Fault::RegionUnable(errand.function));
    };
    if worker.in_flight() >= most {
        return Err(Fault::RegionFull);
    }
    let function = find(worker, &errand.function).ok_or_else(|| Fault::RegionUnable(errand.function.clone()))?;
    if errand.heavy {
        // In a process apart, or it would hold up all that this worker has: V8 cannot set it aside.
        function.heavy.expect(state.millis());
    }
    record.function = Some(Arc::clone(&function));
    record.routed = Some(record.began.elapsed());
    let (body, over) = limited_body(&function, body)?;
    head::remove_hop_by_hop(&mut head.headers);
    let mut passed: Vec<_> = head.headers.get_all(head::CDN_LOOP).iter().cloned().collect();
    // The PoP has it from its client; that it has been there is news for whoever is asked next.
    passed.extend(HeaderValue::from_str(&head::cdn_id(&errand.pop)));
    let capabilities = Rc::new(capabilities::Request {
        worker: Rc::clone(worker),
        function,
        visit: Visit {
            client: errand.client,
            scheme: if errand.secure { "https" } else { "http" },
            authority: errand.authority,
            request_id: record.request_id.clone(),
        },
        passed,
        trace: record.trace.clone(),
        notes: Rc::clone(&record.notes),
        http: match &*errand.http {
            "HTTP/2" => "HTTP/2",
            "HTTP/1.0" => "HTTP/1.0",
            _ => "HTTP/1.1",
        },
        entered: Some(errand.pop),
    });
    let Ran { result, timing } = run(worker, &capabilities, head, body).await;
    record.timing = timing;
    if let Some(over) = over.filter(|over| result.is_err() && over.is_broken()) {
        return Err(over.fault());
    }
    let mut response = result?;
    // Only the node itself may say that it did not run the function.
    response.headers_mut().remove(OWN);
    response.headers_mut().insert(USED, place::used(record.notes.cpu.get()));
    Ok(response)
}

/// What is live here under a name: a deploy reaches node after node.
fn find(worker: &Worker, name: &str) -> Option<Arc<Function>> {
    let name: FunctionName = name.parse().ok()?;
    let routes = worker.state.routes.load();
    let (_, live) = routes.live.get(&name)?;
    let function = match live {
        Live::Ready(function) => function,
        Live::Shelved(shelved) => {
            let read = |version: &_| Function::read(version, &worker.state);
            shelved.function(read, || worker.state.shelf.mend.notify_one()).ok()?
        }
        Live::Damaged(_) => return None,
    };
    function.has_handler.then(|| Arc::clone(function))
}
