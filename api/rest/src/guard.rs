//! Who may ask, and what: hosts, tokens, and requests that another site makes a browser send.

use crate::app::App;
use crate::error::ApiError;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// How long an ordinary request may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The cookie in which a browser keeps what proves that it has shown a token.
pub const COOKIE: &str = "hurtig-session";

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To look.
    Read,
    /// To change things.
    Operate,
}

/// Who may ask.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// What proves a right: hashes of tokens, so that comparing takes as long for a good guess as for a bad one.
    proofs: Vec<(String, Right)>,
    /// Whether only this machine can reach the server, so that requests in another name are from a page that has led a
    /// browser here.
    pub is_local: bool,
}

/// What stands for a token in cookies.
pub fn proof(token: &str) -> String {
    let hash = Sha256::new_with_prefix("hurtig-rest ").chain_update(token.trim()).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Guard {
    /// A guard that asks for tokens, if there are any.
    pub fn new(operate: Option<&str>, read: Option<&str>, is_local: bool) -> Self {
        let operate = operate.map(|token| (proof(token), Right::Operate));
        let read = read.map(|token| (proof(token), Right::Read));
        Guard { proofs: operate.into_iter().chain(read).collect(), is_local }
    }

    /// What a proof allows.
    pub fn right_of(&self, shown: &str) -> Option<Right> {
        self.proofs.iter().filter(|(proof, _)| proof == shown).map(|(_, right)| *right).max()
    }

    fn right(&self, headers: &HeaderMap) -> Option<Right> {
        if self.proofs.is_empty() {
            return Some(Right::Operate);
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).map(proof);
        let cookies = text(header::COOKIE).unwrap_or_default().split(';');
        let cookie = cookies.filter_map(|cookie| cookie.trim().split_once('='));
        let cookie = cookie.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_string());
        bearer.into_iter().chain(cookie).filter_map(|shown| self.right_of(&shown)).max()
    }

    /// Whether a request may go on.
    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text("host").unwrap_or_default();
        if self.is_local && self.proofs.is_empty() && !is_this_machine(host) {
            return Err(forbidden("this server is for this machine: ask for it as 'localhost'"));
        }
        let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if changes && !is_same_site(text("sec-fetch-site"), text("origin"), host) {
            return Err(forbidden("the request comes from another site"));
        }
        let is_open = path == "/web/login" || path == "/web/style.css";
        match self.right(headers) {
            _ if is_open => Ok(()),
            None => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "show a token: as 'Authorization: Bearer …', or at /web/login",
            )),
            Some(Right::Read) if changes => Err(forbidden("this token is for looking only")),
            Some(_) => Ok(()),
        }
    }
}

fn forbidden(sentence: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, sentence)
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a request that changes something is from the page itself or from a program: a browser says where a request is
/// from, and a program neither sends cookies that it was not given nor is led here by a page.
fn is_same_site(fetch_site: Option<&str>, origin: Option<&str>, host: &str) -> bool {
    match (fetch_site, origin) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").is_some_and(|(_, of)| of == host),
        (None, None) => true,
    }
}

/// Lets requests in, or not.
pub async fn guard(
    State((app, guard)): State<(Arc<App>, Arc<Guard>)>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    if let Err(error) = guard.check(request.method(), &path, request.headers()) {
        let is_page = path == "/" || path.starts_with("/web/");
        if error.status == StatusCode::UNAUTHORIZED && is_page && request.method() == Method::GET {
            return Redirect::to("/web/login").into_response();
        }
        return error.into_response();
    }
    let takes_long = path == "/web/live" || path.ends_with("/upload");
    let mut response = if takes_long {
        next.run(request).await
    } else {
        match tokio::time::timeout(TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => ApiError::new(StatusCode::GATEWAY_TIMEOUT, "the cluster did not answer in time")
                .into_response(),
        }
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        tracing::debug!(%method, path, status = response.status().as_u16(), "refused");
    }
    if app.web_dir.is_none() {
        let policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(policy));
        headers.insert(header::REFERRER_POLICY, header::HeaderValue::from_static("same-origin"));
    }
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn status(guard: &Guard, method: Method, pairs: &[(&'static str, &str)]) -> Option<u16> {
        guard.check(&method, "/jobs", &headers(pairs)).err().map(|error| error.status.as_u16())
    }

    #[test]
    fn a_local_server_answers_to_no_other_name() {
        let guard = Guard::new(None, None, true);
        for host in ["localhost:8081", "127.0.0.1:8081", "[::1]:8081"] {
            assert_eq!(status(&guard, Method::GET, &[("host", host)]), None, "{host}");
        }
        for host in ["rebound.example", "", "127.0.0.1.example:80"] {
            assert_eq!(status(&guard, Method::GET, &[("host", host)]), Some(403), "{host}");
        }
    }

    #[test]
    fn no_other_site_has_a_browser_change_anything() {
        let guard = Guard::new(None, None, true);
        let host = ("host", "localhost:8081");
        assert_eq!(status(&guard, Method::POST, &[host]), None, "a program");
        assert_eq!(status(&guard, Method::POST, &[host, ("origin", "http://localhost:8081")]), None);
        assert_eq!(status(&guard, Method::POST, &[host, ("origin", "http://evil.example")]), Some(403));
        assert_eq!(status(&guard, Method::POST, &[host, ("origin", "null")]), Some(403));
        assert_eq!(status(&guard, Method::PATCH, &[host, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(status(&guard, Method::POST, &[host, ("sec-fetch-site", "same-origin")]), None);
    }

    #[test]
    fn tokens_give_rights() {
        let guard = Guard::new(Some("open\n"), Some("look"), false);
        assert_eq!(status(&guard, Method::GET, &[]), Some(401));
        assert_eq!(status(&guard, Method::GET, &[("authorization", "Bearer wrong")]), Some(401));
        assert_eq!(status(&guard, Method::GET, &[("authorization", "Bearer look")]), None);
        assert_eq!(status(&guard, Method::POST, &[("authorization", "Bearer look")]), Some(403));
        assert_eq!(status(&guard, Method::POST, &[("authorization", "Bearer open")]), None);
        let cookie = format!("other=1; {COOKIE}={}", proof("open"));
        assert_eq!(status(&guard, Method::POST, &[("cookie", &cookie)]), None);
    }
}
