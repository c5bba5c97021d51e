//! Where a browser shows its token. It gets a cookie that no script and no other site can use.

use super::{Page, PageError, PageResult};
use crate::app::Shared;
use crate::error::ApiError;
use crate::guard::{COOKIE, proof};
use axum::extract::Form;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde::Deserialize;

/// GET `/web/login`.
pub async fn page(_: Shared) -> PageResult {
    let head = html! {
        h1 { "Who is there?" }
        form.card method="post" action="/web/login" {
            label for="token" { "Token: what is in the file that 'rest.token' names" }
            input #token name="token" type="password" required autocomplete="current-password";
            button type="submit" { "Enter" }
        }
    };
    Ok(Page { title: "Login".into(), head, regions: Vec::new(), foot: html! {}, is_live: false })
}

/// A token.
#[derive(Deserialize)]
pub struct Token {
    token: String,
}

/// POST `/web/login`.
pub async fn enter(app: Shared, Form(Token { token }): Form<Token>) -> Result<Response, PageError> {
    let shown = proof(&token);
    if app.guard.right_of(&shown).is_none() {
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "that is not the token").into());
    }
    let secure = if app.config.rest.certificates.is_some() { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={shown}; Path=/; HttpOnly; SameSite=Strict{secure}");
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}
