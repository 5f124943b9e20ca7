//! The Cache API and what `fetch()` says of caching, as JavaScript sees them. The sentences quoted are Cloudflare's
//! (https://developers.cloudflare.com/workers/runtime-apis/cache/).

use super::*;

/// What a handler with this body answers.
async fn answer(worker: &Worker, body: &str) -> String {
    let answer = ask(worker, &handler(body), request("GET", "/a", "")).await.unwrap();
    answer.body.unwrap()
}

/// "Adds to the cache a response keyed to the given request"; "Returns a promise wrapping the response object keyed to that
/// request"; "Deletes the Response object from the cache and returns a Promise for a Boolean response".
#[test]
fn what_is_put_is_found_until_it_is_deleted() {
    with_worker(|worker| async move {
        let body = "const cache = caches.default, url = 'http://o/a?b';
             const before = await cache.match(url);
             const put = await cache.put(new Request(url + '#c'), new Response('hello', { status: 201, headers: { 'x-a': '1' } }));
             const found = await cache.match(new URL(url));
             const text = [before, put, found.status, found.headers.get('x-a'), await found.text(), found.url].join(' ');
             let frozen = false; try { found.headers.set('x', 'y') } catch { frozen = true }
             return new Response([text, frozen, await cache.delete(url), await cache.delete(url), await cache.match(url)].join(' '))";
        assert_eq!(answer(&worker, body).await, "  201 1 hello http://o/a?b true true false ");
    });
}

/// "caches.open(): [...] create a new cache with a custom name".
#[test]
fn caches_of_other_names_are_others() {
    with_worker(|worker| async move {
        let body = "const [a, b] = [await caches.open('default'), await caches.open('b')];
             await a.put('http://o/', new Response('a'));
             const found = await Promise.all([caches.default, b, a, await caches.open('default')].map((c) => c.match('http://o/')));
             return new Response(found.map((response) => response !== undefined).join(' '))";
        assert_eq!(answer(&worker, body).await, "false false true true");
    });
}

/// put() "throws if: the request passed is a method other than GET; the response passed has a status of 206 Partial Content;
/// the response passed contains the header Vary: *".
#[test]
fn put_refuses_what_it_is_documented_to_refuse() {
    with_worker(|worker| async move {
        let body = "const cache = caches.default, said = [];
             const attempt = async (request, response) => {
               try { await cache.put(request, response); said.push('stored') } catch (error) { said.push(`${error.name}: ${error.message}`) }
             };
             await attempt(new Request('http://o/', { method: 'POST', body: 'x' }), new Response('x'));
             await attempt('http://o/', new Response('x', { status: 206 }));
             await attempt('http://o/', new Response('x', { headers: { vary: 'accept, *' } }));
             await attempt('http://o/', 'x');
             await attempt('/relative', new Response('x'));
             const used = new Response('x'); await used.text(); await attempt('http://o/', used);
             await attempt('http://o/', new Response(new ReadableStream({ start(c) { c.error(new Error('broke')) } })));
             said.push(await cache.match('http://o/'));
             try { new Cache() } catch (error) { said.push(error.message) }
             return new Response(said.join('\\n'))";
        let said = answer(&worker, body).await;
        let lines: Vec<_> = said.lines().collect();
        for (line, part) in
            lines.iter().zip(["a POST", "206", "Vary: *", "must be a Response", "not absolute", "used", "broke", ""])
        {
            assert!(line.contains(part) && (part.is_empty() || line.starts_with("TypeError")), "{line}: {part}");
        }
        assert_eq!(lines.last(), Some(&"Illegal constructor"));
    });
}

/// "ignoreMethod: Consider the request method a GET regardless of its actual value."
#[test]
fn only_get_is_found_unless_the_method_is_ignored() {
    with_worker(|worker| async move {
        let body = "const cache = caches.default; await cache.put('http://o/', new Response('x'));
             const post = new Request('http://o/', { method: 'POST' }), ignoring = { ignoreMethod: true };
             const found = [await cache.match(post), await cache.match(post, ignoring), await cache.delete(post), await cache.delete(post, ignoring)];
             return new Response(found.map(Boolean).join(' '))";
        assert_eq!(answer(&worker, body).await, "false true false true");
    });
}

#[test]
fn a_body_streams_in_and_waits_for_nobody_else() {
    with_worker(|worker| async move {
        let body = "const { readable, writable } = new IdentityTransformStream();
             const putting = caches.default.put('http://o/', new Response(readable));
             const writer = writable.getWriter();
             for (const part of ['a', 'b', 'c']) await writer.write(new TextEncoder().encode(part));
             await writer.close(); await putting;
             const fetched = await fetch('http://o/x'); await caches.default.put('http://o/f', fetched.clone());
             return new Response(await (await caches.default.match('http://o/')).text() + await (await caches.default.match('http://o/f')).text())";
        assert_eq!(answer(&worker, body).await, "abcGET http://o/x ");
    });
}

#[test]
fn what_fetch_says_of_caching_travels_and_only_when_it_says_something() {
    with_worker(|worker| async move {
        let body = "const said = async (...args) => (await fetch(...args)).headers.get('caching');
             const base = new Request('http://o/', { cf: { cacheTtl: 1 }, cache: 'no-store' });
             return new Response([await said('http://o/'), await said(request.url, request), await said('http://o/', { cf: { cacheTtl: 5, country: 'x' } }),
               await said('http://o/', { cache: 'no-cache' }), await said(base), await said(base.clone(), { cache: 'reload' })].join('\\n'))";
        let said = answer(&worker, body).await;
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[..2], ["", ""]);
        assert_eq!(
            &lines[2..],
            [
                r#"{"cf":{"cacheTtl":5},"cache":"default"}"#,
                r#"{"cache":"no-cache"}"#,
                r#"{"cf":{"cacheTtl":1},"cache":"no-store"}"#,
                r#"{"cf":{"cacheTtl":1},"cache":"reload"}"#,
            ]
        );
        let body =
            "try { new Request('http://o/', { cache: 'never' }) } catch (error) { return new Response(error.message) }";
        assert!(answer(&worker, body).await.contains("cache is one of default, no-store"));
    });
}
