//! Bodies on their way: decoded, aborted, cloned, handed on.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;

const TEXT: &str = "the quick brown fox jumps over the lazy dog, again and again and again and again";

/// An origin whose answers are encoded, stall, or break off.
#[derive(Default)]
struct Origin {
    /// The body that stalls was given up.
    closed: Arc<AtomicBool>,
}

impl Capabilities for Origin {
    fn url(&self, head: &http::request::Parts) -> String {
        format!("http://example.com{}", head.uri)
    }

    fn complete(&self, _headers: &mut http::HeaderMap) {}

    fn cf(&self) -> String {
        "{}".to_owned()
    }

    fn fetch(
        self: Rc<Self>,
        request: http::Request<Body>,
        _cf: String,
    ) -> LocalBoxFuture<'static, Result<http::Response<Body>, String>> {
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            let mut response = http::Response::builder();
            let answer = match head.uri.path() {
                "/gzip" | "/deflate" | "/raw" | "/br" | "/bomb" => {
                    let kind = &head.uri.path()[1..];
                    let coding = match kind {
                        "raw" => "deflate",
                        "bomb" => "gzip",
                        other => other,
                    };
                    response = response.header("content-encoding", coding);
                    chunks(encoded(kind), 7)
                }
                "/twice" => {
                    response = response.header("content-encoding", "deflate, gzip");
                    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                    gzip.write_all(&encoded("deflate")).unwrap();
                    chunks(gzip.finish().unwrap(), 10)
                }
                "/broken" => {
                    response = response.header("content-encoding", "gzip");
                    chunks(b"this is not gzip at all".to_vec(), 5)
                }
                "/cut" => {
                    response = response.header("content-encoding", "gzip");
                    let whole = encoded("gzip");
                    chunks(whole[..whole.len() / 2].to_vec(), 5)
                }
                "/zstd" => {
                    response = response.header("content-encoding", "zstd");
                    full("as it is")
                }
                "/stall" => stalling(Arc::clone(&self.closed)),
                "/missing" => {
                    response = response.status(404);
                    full("no")
                }
                "/credentials" => {
                    response = response.status(302).header("location", "http://user:secret@elsewhere/");
                    full("")
                }
                _ => {
                    let length = http_body::Body::size_hint(&full(body.clone())).exact();
                    full(format!("{} {} {length:?} {}", head.method, head.uri, String::from_utf8_lossy(&body)))
                }
            };
            Ok(response.body(answer).unwrap())
        }
        .boxed_local()
    }

    fn cache(
        self: Rc<Self>,
        _: String,
        _: http::Request<()>,
        _: CacheCall,
    ) -> LocalBoxFuture<'static, Result<Option<http::Response<Body>>, String>> {
        async { Ok(None) }.boxed_local()
    }

    fn call(&self, _: &str, _: &str, _: &str) -> Result<String, String> {
        Ok("{}".to_owned())
    }

    fn call_async(&self, _: String, _: String, _: String) -> LocalBoxFuture<'static, Result<String, String>> {
        async { Ok("{}".to_owned()) }.boxed_local()
    }

    fn log(&self, _: u8, _: &str) {}

    fn own_log(&self, _: u8, _: &str) {}
}

fn encoded(kind: &str) -> Vec<u8> {
    let level = flate2::Compression::default();
    match kind {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(TEXT.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
        "bomb" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&vec![0; 200 << 20]).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(TEXT.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
        "raw" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(TEXT.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(TEXT.as_bytes()).unwrap();
            out
        }
        other => panic!("{other}"),
    }
}

fn chunks(bytes: Vec<u8>, size: usize) -> Body {
    let size = size.max(bytes.len() / 1000);
    let chunks: Vec<_> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
    let frames = futures::stream::iter(chunks.into_iter().map(|chunk| Ok(http_body::Frame::data(chunk))));
    Box::pin(http_body_util::StreamBody::new(frames))
}

fn stalling(closed: Arc<AtomicBool>) -> Body {
    struct Tell(Arc<AtomicBool>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let tell = Tell(closed);
    let first = futures::stream::once(async { Ok(http_body::Frame::data(Bytes::from_static(b"first"))) });
    let rest = futures::stream::poll_fn(move |_| {
        let _held = &tell;
        std::task::Poll::Pending
    });
    Box::pin(http_body_util::StreamBody::new(futures::StreamExt::chain(first, rest)))
}

async fn send(
    worker: &Worker,
    body: &str,
    request: http::Request<Body>,
) -> Result<(http::response::Parts, Bytes), Failure> {
    let program = handler_with(body, &[("cpu_ms", 2_000)]);
    let invoked = worker.invoke(&program, request, Rc::new(Origin::default())).await;
    let (head, body) = invoked.result?.into_parts();
    Ok((head, body.collect().await.unwrap().to_bytes()))
}

async fn get(worker: &Worker, body: &str) -> (http::response::Parts, Bytes) {
    send(worker, body, request("GET", "/", "")).await.unwrap_or_else(|failure| panic!("{body}: {failure:?}"))
}

async fn gives(worker: &Worker, body: &str, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&get(worker, body).await.1), expected, "{body}");
}

#[test]
fn a_compressed_answer_is_read_decoded() {
    with_worker(|worker| async move {
        for kind in ["gzip", "deflate", "raw", "br", "twice"] {
            for read in [
                "return new Response(await r.text())",
                "return new Response((await r.clone().text()) === (await r.text()) ? r.headers.get('x') ?? await new Response(await (await fetch('http://o/KIND')).arrayBuffer()).text() : 'differs')",
                "let all = ''; for await (const chunk of r.body.pipeThrough(new TextDecoderStream())) all += chunk; return new Response(all)",
                "return new Response(await (await r.blob()).text())",
                "return new Response(await r.bytes())",
                "return new Response(r.body)",
                "return new Response(r.body, { headers: { 'content-type': 'x/y' } })",
            ] {
                let body = format!("const r = await fetch('http://o/{kind}'); {read}").replace("KIND", kind);
                let (head, bytes) = get(&worker, &body).await;
                assert_eq!(String::from_utf8_lossy(&bytes), TEXT, "{body}");
                assert!(!head.headers.contains_key("content-encoding"), "{body}");
            }
        }
    });
}

#[test]
fn a_compressed_answer_that_passes_through_keeps_its_bytes() {
    with_worker(|worker| async move {
        for kind in ["gzip", "deflate", "br"] {
            for pass in [
                "return r",
                "return new Response(r.body, r)",
                "r.body; return r",
                "const s = new Response(r.body, r); s.headers.set('x-more', '1'); return s",
                "return new Response(r.body, { headers: r.headers, encodeBody: 'manual' })",
            ] {
                let body = format!("const r = await fetch('http://o/{kind}'); {pass}");
                let (head, bytes) = get(&worker, &body).await;
                assert_eq!(bytes, encoded(kind), "{body}");
                assert_eq!(head.headers["content-encoding"], kind, "{body}");
            }
        }
        gives(&worker, "return fetch('http://o/zstd')", "as it is").await;
        gives(&worker, "return new Response(await (await fetch('http://o/zstd')).text())", "as it is").await;
    });
}

#[test]
fn a_body_is_brought_to_the_encoding_its_response_announces() {
    with_worker(|worker| async move {
        for body in [
            "const r = await fetch('http://o/gzip'); return new Response(await r.text(), r)",
            "const r = await fetch('http://o/gzip'); return r.clone()",
            "const r = await fetch('http://o/br'); return new Response(r.body, { headers: { 'content-encoding': 'gzip' } })",
            "const r = await fetch('http://o/gzip'); return new Response(r.body.pipeThrough(new IdentityTransformStream()), r)",
            "const r = await fetch('http://o/gzip'); return new Response(await r.arrayBuffer(), r)",
        ] {
            let (head, bytes) = get(&worker, body).await;
            assert_eq!(head.headers["content-encoding"], "gzip", "{body}");
            let mut text = String::new();
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text).unwrap();
            assert_eq!(text, TEXT, "{body}");
        }
        let manual =
            "return new Response('as it is', { headers: { 'content-encoding': 'gzip' }, encodeBody: 'manual' })";
        gives(&worker, manual, "as it is").await;
    });
}

#[test]
fn compressed_data_that_is_broken_cut_or_a_bomb_is_an_error() {
    with_worker(|worker| async move {
        for path in ["broken", "cut"] {
            let body = format!(
                "try {{ await (await fetch('http://o/{path}')).text() }} catch (e) {{ return new Response(e.name) }}"
            );
            gives(&worker, &body, "TypeError").await;
        }
        gives(
            &worker,
            "try { await (await fetch('http://o/bomb')).text() } catch (e) { return new Response(e.name) }",
            "RangeError",
        )
        .await;
        // As a stream it goes on: what was read may be forgotten.
        gives(&worker, "let n = 0; for await (const c of (await fetch('http://o/bomb')).body) n += c.length; return new Response(n)", "209715200").await;
    });
}

#[test]
fn streams_compress_and_decompress() {
    with_worker(|worker| async move {
        for format in ["gzip", "deflate", "deflate-raw", "brotli"] {
            let body = format!(
                "const text = 'again '.repeat(50000); const squeezed = await new Response(new Blob([text]).stream().pipeThrough(new CompressionStream('{format}'))).bytes();
                 const back = await new Response(new Blob([squeezed]).stream().pipeThrough(new DecompressionStream('{format}'))).text();
                 return new Response(String(squeezed.length < 3000) + (back === text))"
            );
            gives(&worker, &body, "truetrue").await;
        }
        for body in [
            "await new Response(new Blob(['not gzip, as anybody can see']).stream().pipeThrough(new DecompressionStream('gzip'))).text()",
            "const d = new DecompressionStream('deflate'); const w = d.writable.getWriter(); w.write(new Uint8Array([0x78])).catch(() => {}); w.close().catch(() => {}); await new Response(d.readable).text()",
            "new DecompressionStream('rot13')",
            "new CompressionStream('rot13')",
        ] {
            gives(&worker, &format!("try {{ {body} }} catch (e) {{ return new Response(e.name) }}"), "TypeError").await;
        }
        // Used and done with, or dropped: a thousand are no problem.
        gives(&worker, "for (let i = 0; i < 1000; i++) await new Response(new Blob(['x']).stream().pipeThrough(new CompressionStream('gzip'))).bytes(); return new Response('ok')", "ok").await;
    });
}

#[test]
fn an_abort_reaches_a_body_that_is_being_read() {
    with_worker(|worker| async move {
        for (body, expected) in [
            (
                "const c = new AbortController(); const r = await fetch('http://o/stall', { signal: c.signal }); setTimeout(() => c.abort(), 10); await r.arrayBuffer()",
                "AbortError",
            ),
            (
                "const c = new AbortController(); const r = await fetch('http://o/stall', { signal: c.signal }); c.abort(new RangeError('mine')); await r.text()",
                "RangeError",
            ),
            (
                "const r = await fetch('http://o/stall', { signal: AbortSignal.timeout(20) }); await r.text()",
                "TimeoutError",
            ),
            (
                "const r = await fetch('http://o/stall', { signal: AbortSignal.any([AbortSignal.timeout(20), new AbortController().signal]) }); for await (const c of r.body);",
                "TimeoutError",
            ),
            (
                "const c = new AbortController(); const r = await fetch('http://o/stall', { signal: c.signal }); const reader = r.body.getReader(); await reader.read(); c.abort(); await reader.read()",
                "AbortError",
            ),
            ("await fetch('http://o/', { signal: AbortSignal.abort() })", "AbortError"),
        ] {
            let body =
                format!("try {{ {body} }} catch (e) {{ return new Response(e.name) }} return new Response('no abort')");
            let answered = tokio::time::timeout(Duration::from_secs(5), get(&worker, &body)).await;
            assert_eq!(answered.expect("it does not hang").1, expected, "{body}");
        }
        // A body that ended is not affected, nor one that was handed on.
        gives(&worker, "const c = new AbortController(); const r = await fetch('http://o/x', { signal: c.signal }); const t = await r.text(); c.abort(); return new Response(t)", "GET http://o/x Some(0) ").await;
        gives(&worker, "const c = new AbortController(); const r = await fetch('http://o/x', { signal: c.signal }); setTimeout(() => c.abort(), 0); return r", "GET http://o/x Some(0) ").await;
    });
}

#[test]
fn a_body_that_is_given_up_is_closed_at_once() {
    with_worker(|worker| async move {
        for body in [
            "const c = new AbortController(); const r = await fetch('http://o/stall', { signal: c.signal }); const read = r.text(); await scheduler.wait(5); c.abort(); await read.catch(() => {})",
            "const r = await fetch('http://o/stall'); const reader = r.body.getReader(); await reader.read(); reader.read(); await scheduler.wait(5); await reader.cancel()",
            "const r = await fetch('http://o/stall'); await r.body.cancel()",
            // Left alone: it ends with the request.
            "const r = await fetch('http://o/stall'); r.text().catch(() => {})",
        ] {
            let origin = Origin::default();
            let closed = Arc::clone(&origin.closed);
            let program = handler(&format!("{body}; await scheduler.wait(5); return new Response('done')"));
            let invoked = worker.invoke(&program, request("GET", "/", ""), Rc::new(origin)).await;
            let answer = invoked.result.unwrap_or_else(|failure| panic!("{body}: {failure:?}"));
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "done", "{body}");
            for _ in 0..200 {
                if closed.load(Ordering::Relaxed) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(closed.load(Ordering::Relaxed), "{body}");
        }
    });
}

#[test]
fn a_body_of_a_blob_or_form_has_a_length() {
    with_worker(|worker| async move {
        for (body, length) in [
            ("return new Response(new Blob(['abc', new Uint8Array(3)]))", Some(6)),
            ("return new Response(new Blob(['abcdef']).slice(1, 4))", Some(3)),
            ("return new Response(new File(['ab'], 'n'))", Some(2)),
            (
                "const { readable, writable } = new FixedLengthStream(5); const w = writable.getWriter(); w.write(new TextEncoder().encode('hello')); w.close(); return new Response(readable)",
                Some(5),
            ),
            (
                "const { readable, writable } = new IdentityTransformStream(); const w = writable.getWriter(); w.write(new Uint8Array(2)); w.close(); return new Response(readable)",
                None,
            ),
        ] {
            let program = handler(body);
            let invoked = worker.invoke(&program, request("GET", "/", ""), Rc::new(Origin::default())).await;
            let body_ = invoked.result.unwrap_or_else(|f| panic!("{body}: {f:?}")).into_body();
            assert_eq!(http_body::Body::size_hint(&body_).exact(), length, "{body}");
            let bytes = body_.collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len(), length.unwrap_or(2) as usize, "{body}");
        }
        let form =
            "const f = new FormData(); f.append('a', 'b'); f.append('f', new Blob(['x'])); return new Response(f)";
        let program = handler(form);
        let invoked = worker.invoke(&program, request("GET", "/", ""), Rc::new(Origin::default())).await;
        let body = invoked.result.unwrap().into_body();
        assert!(http_body::Body::size_hint(&body).exact().is_some_and(|length| length > 100));
        gives(
            &worker,
            "return fetch('http://o/up', { method: 'POST', body: new Blob(['abc']) })",
            "POST http://o/up Some(3) abc",
        )
        .await;
        gives(&worker, "const s = new FixedLengthStream(2); const w = s.writable.getWriter(); w.write(new Uint8Array(3)).catch(() => {}); try { await new Response(s.readable).text() } catch (e) { return new Response(e.name) }", "TypeError").await;
    });
}

#[test]
fn a_stream_that_was_read_elsewhere_cannot_be_answered() {
    with_worker(|worker| async move {
        for body in [
            "const s = new Blob(['x']).stream(); const r = new Response(s); for await (const c of s); return r",
            "const s = new Blob(['x']).stream(); const r = new Response(s); s.getReader(); return r",
            "const r = new Response('x'); await r.text(); return r",
            "const r = await fetch('http://o/'); await r.text(); return r",
            "const r = await fetch('http://o/'); const s = new Response(r.body); await s.text(); return r",
            "const r = await fetch('http://o/'); r.body.getReader(); return r",
            "return Response.error()",
            "return 'text'",
        ] {
            match send(&worker, body, request("GET", "/", "")).await {
                Ok((head, bytes)) => panic!("{body}: {} {bytes:?}", head.status),
                Err(failure) => assert_eq!(failure.fault.code(), "function/invalid-response", "{body}"),
            }
        }
    });
}

#[test]
fn two_holders_of_one_body_agree_whether_it_was_used() {
    with_worker(|worker| async move {
        for (body, expected) in [
            (
                "const r = await fetch('http://o/x'); const s = new Response(r.body); const same = r.body === s.body; await s.text(); return Response.json([same, r.bodyUsed, s.bodyUsed, r.body.locked])",
                "[true,true,true,true]",
            ),
            (
                "const a = request; const b = new Request(a); const used = a.bodyUsed; return Response.json([used, b.bodyUsed, await b.text()])",
                r#"[true,false,"sent"]"#,
            ),
            (
                "request.body; const b = new Request(request); return Response.json([request.body.locked, request.bodyUsed, await b.text()])",
                r#"[true,true,"sent"]"#,
            ),
            (
                "const b = new Request(request, { body: 'other' }); return Response.json([request.bodyUsed, await b.text(), await request.text()])",
                r#"[false,"other","sent"]"#,
            ),
            (
                "const c = request.clone(); return Response.json([await c.text(), await request.text(), request.bodyUsed])",
                r#"["sent","sent",true]"#,
            ),
            (
                "const c = request.clone(); const d = c.clone(); return Response.json([await d.text(), await c.text(), await request.text()])",
                r#"["sent","sent","sent"]"#,
            ),
            (
                "const r = new Response(new Blob(['a', 'b']).stream()); const c = r.clone(); return Response.json([await c.text(), await r.text()])",
                r#"["ab","ab"]"#,
            ),
            (
                "const r = new Response('x'); const b = r.body; await r.text(); return Response.json([b.locked, r.body === b, r.bodyUsed])",
                "[true,true,true]",
            ),
            ("const r = new Response('x'); await r.body.cancel(); return Response.json([r.bodyUsed])", "[true]"),
            (
                "const r = new Response('x'); r.body.getReader(); try { r.clone() } catch (e) { return new Response(e.name) }",
                "TypeError",
            ),
            (
                "const q = new Request('http://o/', { method: 'POST', body: new Blob(['p']).stream() }); const p = new Request(q); return Response.json([q.bodyUsed, q.body.locked, await p.text()])",
                r#"[true,true,"p"]"#,
            ),
            (
                "const reads = ['text', 'json', 'bytes', 'arrayBuffer', 'blob', 'formData']; const out = []; for (const read of reads) { const r = new Response('1'); await r.text(); try { await r[read](); out.push(0) } catch (e) { out.push(e.name) } } return new Response(out)",
                "TypeError,TypeError,TypeError,TypeError,TypeError,TypeError",
            ),
            (
                "return Response.json([new Response().body, new Response(null).bodyUsed, await new Response().text(), (await new Response().arrayBuffer()).byteLength])",
                r#"[null,false,"",0]"#,
            ),
        ] {
            let (_, bytes) =
                send(&worker, body, request("POST", "/", "sent")).await.unwrap_or_else(|f| panic!("{body}: {f:?}"));
            assert_eq!(String::from_utf8_lossy(&bytes), expected, "{body}");
        }
    });
}

#[test]
fn a_fetched_response_says_what_it_is() {
    with_worker(|worker| async move {
        for (body, expected) in [
            (
                "const r = await fetch('http://o/missing'); return Response.json([r.status, r.statusText, r.ok, r.type, r.url, r.redirected])",
                r#"[404,"Not Found",false,"basic","http://o/missing",false]"#,
            ),
            (
                "const r = await fetch('http://o/x#part'); return Response.json([r.statusText, r.url])",
                r#"["OK","http://o/x"]"#,
            ),
            (
                "try { await fetch('http://o/credentials') } catch (e) { return new Response(e.name + e.message.includes('credentials')) }",
                "TypeErrortrue",
            ),
            ("try { await fetch('http://user:secret@o/') } catch (e) { return new Response(e.name) }", "TypeError"),
            (
                "const r = await fetch('http://o/gzip'); try { r.headers.delete('content-encoding') } catch (e) { return new Response(e.name) }",
                "TypeError",
            ),
            (
                "const r = await fetch('http://o/credentials', { redirect: 'manual' }); return Response.json([r.status, r.headers.get('location')])",
                r#"[302,"http://user:secret@elsewhere/"]"#,
            ),
        ] {
            gives(&worker, body, expected).await;
        }
    });
}
