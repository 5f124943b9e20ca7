//! Bearer tokens in HTTP (RFC 6750, with the grammar of RFC 9110, 11).

use super::Rejection;

/// The token in an `Authorization` header's value, if its scheme is `Bearer`, in any case.
///
/// `None` for another scheme, for no token, and for anything that is not exactly one: spaces, commas and quotes cannot
/// be in one. Whether what is left is a token is for the verifier to say.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim_matches([' ', '\t']).split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let token68 = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(token68)).then_some(token)
}

/// The value of `WWW-Authenticate` that goes with a 401 (RFC 6750, 3).
///
/// Without a rejection, that is when the request had no credentials, it has no error code: the client did nothing
/// wrong yet. With one the error is `invalid_token`, with a sentence that says why. What a header cannot hold becomes
/// `?` in the realm.
pub fn www_authenticate(realm: &str, rejection: Option<&Rejection>) -> String {
    let challenge = format!("Bearer realm={}", quoted(realm));
    match rejection {
        None | Some(Rejection::KeysUnavailable) => challenge,
        Some(rejection) => {
            format!("{challenge}, error=\"invalid_token\", error_description={}", quoted(&rejection.description()))
        }
    }
}

/// A quoted-string (RFC 9110, 5.6.4) of printable ASCII.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_found_whatever_the_case_of_the_scheme() {
        for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c", " Bearer a.b.c\t"] {
            assert_eq!(bearer(header), Some("a.b.c"), "{header:?}");
        }
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "Basic a.b.c",
            "Bearera.b.c",
            "Bearer a b",
            "Bearer a,b",
            "Bearer \"a\"",
            "a.b.c",
            "Bearer ä",
        ] {
            assert_eq!(bearer(header), None, "{header:?}");
        }
    }

    #[test]
    fn the_challenge_has_an_error_only_when_there_was_a_token() {
        assert_eq!(www_authenticate("api", None), r#"Bearer realm="api""#);
        assert_eq!(
            www_authenticate("api", Some(&Rejection::Expired)),
            r#"Bearer realm="api", error="invalid_token", error_description="The token has expired""#
        );
        assert_eq!(www_authenticate("api", Some(&Rejection::KeysUnavailable)), r#"Bearer realm="api""#);
    }

    #[test]
    fn a_realm_cannot_break_out_of_its_quotes() {
        assert_eq!(www_authenticate("a\"b\\c\r\nd\u{fc}", None), r#"Bearer realm="a\"b\\c??d?""#);
    }
}
