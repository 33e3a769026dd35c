//! Which web pages may talk to us: for CORS and for the Origin check of WebSockets.

use std::str::FromStr;

use actix_web::http::header::{HOST, HeaderMap, ORIGIN};
use roost_proto::error::{Code, Problem};
use serde::{Deserialize, Serialize};

/// The origins that browsers' pages may come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct AllowedOrigins {
    any: bool,
    exact: Vec<String>,
}

impl AllowedOrigins {
    /// Every origin, as with `--dev`.
    #[must_use]
    pub fn any() -> Self {
        Self { any: true, exact: Vec::new() }
    }

    /// Reads a list of origins (`https://app.example`, with a port if it is not the scheme's) and `*`.
    pub fn parse<I: IntoIterator<Item = impl AsRef<str>>>(list: I) -> Result<Self, String> {
        let mut origins = Self::default();
        for text in list {
            match text.as_ref() {
                "*" => origins.any = true,
                text => origins.exact.push(origin(text)?),
            }
        }
        Ok(origins)
    }

    /// Whether every origin is allowed.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.any
    }

    /// The origins that were listed, in lower case, without `*`.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().map(String::as_str)
    }

    /// Whether a page from `origin` (an `Origin` header's text) is allowed.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        self.any || self.exact.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }

    /// Checks a WebSocket's request. Clients that are no browsers send no `Origin` and pass, and so does a page that
    /// was served by the same host; else `origin_not_allowed`.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let Ok(origin) = origin.to_str() else { return Err(not_allowed("that is no text")) };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let same = origin.split_once("://").is_some_and(|(_, authority)| {
            host.is_some_and(|host| !host.is_empty() && host.eq_ignore_ascii_case(authority))
        });
        if same || self.allows(origin) { Ok(()) } else { Err(not_allowed(origin)) }
    }
}

impl FromStr for AllowedOrigins {
    type Err = String;

    /// One origin or `*`.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse([text])
    }
}

impl TryFrom<Vec<String>> for AllowedOrigins {
    type Error = String;

    fn try_from(list: Vec<String>) -> Result<Self, String> {
        Self::parse(list)
    }
}

impl From<AllowedOrigins> for Vec<String> {
    fn from(origins: AllowedOrigins) -> Self {
        origins.any.then(|| "*".to_owned()).into_iter().chain(origins.exact).collect()
    }
}

fn not_allowed(origin: &str) -> Problem {
    let shown: String = origin.chars().take(100).collect();
    Problem::new(Code::OriginNotAllowed, format!("origin {shown:?}: expected one of the allowed origins"))
}

fn origin(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?}: expected *, or an origin like https://app.example or http://127.0.0.1:8080");
    let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
    let scheme_fits = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let authority_fits =
        !authority.is_empty() && authority.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\*\"'<>,".contains(&b));
    if scheme_fits && authority_fits { Ok(text.to_ascii_lowercase()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn listed_origins_pass_and_others_do_not() {
        let origins = AllowedOrigins::parse(["https://App.example", "http://127.0.0.1:8080"]).expect("valid");
        for (origin, allowed) in [
            ("https://app.example", true),
            ("HTTPS://APP.EXAMPLE", true),
            ("http://127.0.0.1:8080", true),
            ("http://app.example", false),
            ("https://app.example:444", false),
            ("https://app.example.evil", false),
            ("null", false),
        ] {
            assert_eq!(origins.allows(origin), allowed, "{origin}");
            assert_eq!(origins.check(&headers(&[("origin", origin)])).is_ok(), allowed, "{origin}");
            assert!(AllowedOrigins::any().allows(origin));
        }
    }

    #[test]
    fn who_is_no_browser_and_who_is_at_home_passes() {
        let none = AllowedOrigins::default();
        assert!(none.check(&headers(&[])).is_ok());
        assert!(none.check(&headers(&[("host", "a.example:7410"), ("origin", "https://a.example:7410")])).is_ok());
        let problem = none.check(&headers(&[("host", "a.example"), ("origin", "https://b.example")])).expect_err("b");
        assert_eq!(problem.code, Code::OriginNotAllowed);
        assert!(none.check(&headers(&[("host", ""), ("origin", "https://")])).is_err());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_only() {
        for good in ["*", "https://a", "https://a.example:8443", "http://[::1]:80", "capacitor://localhost"] {
            assert!(good.parse::<AllowedOrigins>().is_ok(), "{good}");
        }
        for bad in ["", "a.example", "https://", "https://a/", "https://*.a", "https://u@a", "https://a b", "null"] {
            assert!(bad.parse::<AllowedOrigins>().is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_are_written_as_they_were_read() {
        let list = vec!["*".to_owned(), "https://a.example".to_owned()];
        let origins = AllowedOrigins::try_from(list.clone()).expect("valid");
        assert_eq!(Vec::from(origins), list);
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = actix_web::http::header::HeaderName::from_static(name);
            headers.insert(name, HeaderValue::from_str(value).expect("text"));
        }
        headers
    }
}
