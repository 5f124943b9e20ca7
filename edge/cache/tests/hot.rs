//! temporary
#![allow(missing_docs)]
use std::time::Instant;
use http_body_util::BodyExt;
#[test]
fn hot() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let cache = cache::Cache::new(cache::Config::default());
        let mk = || http::Request::get("http://example.com/site/logo.png").header("host","example.com").header("user-agent","curl").header("accept","*/*").header("accept-encoding","gzip").body(()).unwrap().into_parts().0;
        let origin = |_| async { Ok(http::Response::builder().header("cache-control","max-age=600").header("etag","\"1\"").header("content-type","image/png").header("last-modified","Tue, 15 Nov 1994 12:45:26 GMT").header("server","x").body(http_body_util::Full::new(bytes::Bytes::from(vec![1u8;10240])).map_err(|e| match e {}).boxed_unsync()).unwrap()) };
        cache::fetch(&cache, mk(), origin).await.unwrap().into_body().collect().await.unwrap();
        for _ in 0..3 {
            let n = 300_000;
            let t = Instant::now();
            for _ in 0..n { std::hint::black_box(mk()); }
            let base = t.elapsed();
            let t = Instant::now();
            for _ in 0..n { let r = cache::fetch(&cache, mk(), origin).await.unwrap(); let b = r.into_body().frame().await.unwrap().unwrap(); std::hint::black_box(b); }
            println!("hit {:?} per op, request building {:?}", (t.elapsed()-base)/n, base/n);
        }
    });
}
