//! WebCrypto: what it can, and what a call may not ask for.

use super::*;

/// Runs bodies that return a string, and compares.
fn gives(cases: &'static [(&'static str, &'static str)]) {
    with_worker(move |worker| async move {
        for (body, expected) in cases {
            let program = handler_with(body, &[("cpu_ms", 20_000)]);
            let answer = ask(&worker, &program, request("GET", "/", "")).await;
            let answer = answer.unwrap_or_else(|failure| panic!("{body}: {failure:?}"));
            assert_eq!(answer.body.unwrap(), *expected, "{body}");
        }
    });
}

#[test]
fn tokens_of_every_usual_algorithm_are_signed_and_verified() {
    gives(&[
        (
            "const out = []; const data = new TextEncoder().encode('header.payload');
             for (const [name, algorithm, use] of [
               ['HS256', { name: 'HMAC', hash: 'SHA-256' }, 'HMAC'],
               ['ES256', { name: 'ECDSA', namedCurve: 'P-256' }, { name: 'ECDSA', hash: 'SHA-256' }],
               ['ES384', { name: 'ECDSA', namedCurve: 'P-384' }, { name: 'ECDSA', hash: { name: 'SHA-384' } }],
               ['EdDSA', 'Ed25519', 'Ed25519'],
             ]) {
               const made = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
               const [secret, open] = made.privateKey ? [made.privateKey, made.publicKey] : [made, made];
               const signature = await crypto.subtle.sign(use, secret, data);
               // By way of JWK, as keys come in JWKS.
               const jwk = await crypto.subtle.exportKey('jwk', open);
               const again = await crypto.subtle.importKey('jwk', jwk, algorithm, false, ['verify']);
               const good = await crypto.subtle.verify(use, again, signature, data);
               const bad = await crypto.subtle.verify(use, again, signature, new Uint8Array(3));
               out.push(name, good, bad, jwk.kty);
             }
             return new Response(out)",
            "HS256,true,false,oct,ES256,true,false,EC,ES384,true,false,EC,EdDSA,true,false,OKP",
        ),
        (
            "const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]) };
             const { privateKey, publicKey } = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
             const data = new Uint8Array([1, 2, 3]); const signature = await crypto.subtle.sign('RSASSA-PKCS1-v1_5', privateKey, data);
             const spki = await crypto.subtle.exportKey('spki', publicKey);
             const again = await crypto.subtle.importKey('spki', spki, algorithm, false, ['verify']);
             return new Response([await crypto.subtle.verify('RSASSA-PKCS1-v1_5', again, signature, data), again.algorithm.modulusLength])",
            "true,1024",
        ),
        (
            "const key = await crypto.subtle.importKey('raw', new Uint8Array(32), 'AES-GCM', false, ['encrypt', 'decrypt']);
             const iv = new Uint8Array(12); const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, key, new TextEncoder().encode('secret'));
             return new Response(await crypto.subtle.decrypt({ name: 'AES-GCM', iv }, key, sealed))",
            "secret",
        ),
        (
            "const base = await crypto.subtle.importKey('raw', new Uint8Array(8), 'PBKDF2', false, ['deriveKey', 'deriveBits']);
             const key = await crypto.subtle.deriveKey({ name: 'PBKDF2', hash: 'SHA-256', salt: new Uint8Array(8), iterations: 1000 }, base, { name: 'AES-GCM', length: 256 }, true, ['encrypt']);
             const bits = await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-256', salt: new Uint8Array(8), iterations: 1000 }, base, 256);
             const same = crypto.subtle.timingSafeEqual(bits, await crypto.subtle.exportKey('raw', key)); return new Response(same + key.algorithm.name)",
            "trueAES-GCM",
        ),
        (
            "const a = await crypto.subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, false, ['deriveBits']); const b = await crypto.subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, false, ['deriveBits']);
             const one = await crypto.subtle.deriveBits({ name: 'ECDH', public: b.publicKey }, a.privateKey, 256); const two = await crypto.subtle.deriveBits({ name: 'ECDH', public: a.publicKey }, b.privateKey, 256);
             return new Response(crypto.subtle.timingSafeEqual(one, two))",
            "true",
        ),
        (
            "const hkdf = await crypto.subtle.importKey('raw', new Uint8Array(8), 'HKDF', false, ['deriveBits']);
             return new Response((await crypto.subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info: new Uint8Array() }, hkdf, 128)).byteLength)",
            "16",
        ),
        (
            "const wrapping = await crypto.subtle.generateKey({ name: 'AES-KW', length: 256 }, false, ['wrapKey', 'unwrapKey']); const key = await crypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-256', length: 256 }, true, ['sign']);
             const wrapped = await crypto.subtle.wrapKey('raw', key, wrapping, 'AES-KW'); const again = await crypto.subtle.unwrapKey('raw', wrapped, wrapping, 'AES-KW', { name: 'HMAC', hash: 'SHA-256' }, true, ['sign']);
             return new Response(crypto.subtle.timingSafeEqual(await crypto.subtle.exportKey('raw', again), await crypto.subtle.exportKey('raw', key)))",
            "true",
        ),
    ]);
}

#[test]
fn digests_and_random_values_are_those_of_workers() {
    gives(&[
        (
            "const out = []; for (const name of ['MD5', 'SHA-1', 'SHA-256', { name: 'sha-512' }]) out.push(new Uint8Array(await crypto.subtle.digest(name, new TextEncoder().encode('abc'))).toHex().slice(0, 8)); return new Response(out)",
            "90015098,a9993e36,ba7816bf,ddaf35a1",
        ),
        (
            "const a = crypto.randomUUID(); return new Response(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(a) && a !== crypto.randomUUID())",
            "true",
        ),
        (
            "const a = new Uint8Array(65536); return new Response(crypto.getRandomValues(a) === a && a.some((x) => x !== 0))",
            "true",
        ),
        (
            "return new Response([crypto.constructor === Crypto, crypto.subtle instanceof SubtleCrypto, crypto.subtle.digest.length, crypto.subtle.digest.name])",
            "true,true,2,digest",
        ),
    ]);
}

#[test]
fn many_calls_at_once_are_all_answered_in_turn() {
    gives(&[(
        "const data = new Uint8Array(1000); const all = Array.from({ length: 100 }, () => crypto.subtle.digest('SHA-256', data)); data[0] = 1;
         const hex = (await Promise.all(all)).map((d) => new Uint8Array(d).toHex()); return new Response([new Set(hex).size, hex.length])",
        "1,100",
    )]);
}

/// Work on other threads is not measured, so it is bounded.
#[test]
fn work_without_bound_is_refused_with_the_bound_named() {
    with_worker(|worker| async move {
        let rsa = "publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256'";
        let base = "const base = await crypto.subtle.importKey('raw', new Uint8Array(8), 'PBKDF2', false, ['deriveBits', 'deriveKey']);";
        let pbkdf2 = "name: 'PBKDF2', hash: 'SHA-1', salt: new Uint8Array(8)";
        for (body, expected) in [
            (format!("{base} await crypto.subtle.deriveBits({{ {pbkdf2}, iterations: 100001 }}, base, 256)"), "100000"),
            (format!("{base} await crypto.subtle.deriveBits({{ {pbkdf2}, iterations: 100000 }}, base, 8192)"), "640 bits"),
            (format!("{base} await crypto.subtle.deriveKey({{ {pbkdf2}, iterations: 4e9 }}, base, {{ name: 'AES-GCM', length: 256 }}, false, ['encrypt'])"), "100000"),
            (format!("{base} let n = 0; await crypto.subtle.deriveBits({{ {pbkdf2}, get iterations() {{ return n++ ? 4e9 : 4e8 }} }}, base, 256)"), "100000"),
            (format!("{base} Object.prototype.iterations = 4e9; try {{ await crypto.subtle.deriveBits({{ {pbkdf2} }}, base, 256) }} finally {{ delete Object.prototype.iterations }}"), "100000"),
            (format!("await crypto.subtle.generateKey({{ name: 'RSA-PSS', modulusLength: 8192, {rsa} }}, false, ['sign', 'verify'])"), "4096"),
            ("await crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 2048, publicExponent: new Uint8Array([1, 1, 1, 1]), hash: 'SHA-256' }, false, ['sign', 'verify'])".to_owned(), "65537"),
            (format!("await crypto.subtle.importKey('jwk', {{ kty: 'RSA', e: 'AQAB', n: '_'.repeat(1366) }}, {{ name: 'RSA-PSS', {rsa} }}, false, ['verify'])"), "4096"),
            ("await crypto.subtle.importKey('raw-secret', new Uint8Array(8), 'Argon2id', false, ['deriveBits'])".to_owned(), "not available"),
            ("await crypto.subtle.generateKey('SLH-DSA-SHA2-256s', false, ['sign'])".to_owned(), "not available"),
            ("await crypto.subtle.digest({ name: 'cSHAKE128', outputLength: 4e9 }, new Uint8Array())".to_owned(), "not available"),
            ("await crypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-256', length: 4e9 }, false, ['sign'])".to_owned(), "16384"),
        ] {
            let body = format!("try {{ {body} }} catch (e) {{ return new Response(e instanceof DOMException ? e.message : `${{e}}`) }}");
            let began = std::time::Instant::now();
            let message = text(&worker, &body).await;
            assert!(message.contains(expected), "{body}: {message}");
            assert!(began.elapsed().as_secs() < 5, "{body}");
        }
    });
}

/// The stubs of asynchronous ops go through `Function.prototype.call`, which a function may replace.
#[test]
fn a_function_cannot_get_hold_of_the_bare_ops() {
    gives(&[
        (
            "const seen = []; const { call } = Function.prototype;
             Function.prototype.call = function (...rest) { seen.push(this); return Reflect.apply(call, this, rest) };
             await crypto.subtle.digest('SHA-256', new Uint8Array(1)); await fetch('http://o/x'); await request.text(); await new Promise((r) => setTimeout(r, 1));
             Function.prototype.call = call; return new Response(seen.length)",
            "0",
        ),
        (
            "crypto; const own = (o) => Object.getOwnPropertyNames(o).filter((n) => !['length', 'name', 'prototype'].includes(n)); return new Response([...own(CryptoKey), ...own(Crypto), ...own(SubtleCrypto)].length)",
            "0",
        ),
    ]);
}
