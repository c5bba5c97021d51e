//! What whoever asks is told instead of an answer: a status and a sentence.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hurtig_runtime::daemon::client::ClientError;
use serde_json::json;

/// What a refusal may say that there is none of.
const MISSING: [&str; 4] = ["job", "log", "TaskManager", "worker"];

/// An error of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is wrong, and what would be right.
    pub sentence: String,
}

impl ApiError {
    /// An error with a status.
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        ApiError { status, sentence: sentence.into() }
    }

    /// What is asked for is not there.
    pub fn not_found(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, sentence)
    }

    /// The request is wrong.
    pub fn bad_request(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    /// hurtig does not do that.
    pub fn not_supported(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, sentence)
    }
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(sentence)
                if MISSING.iter().any(|what| sentence.starts_with(&format!("there is no {what}"))) =>
            {
                Self::not_found(sentence)
            }
            ClientError::Refused(sentence) => Self::new(StatusCode::CONFLICT, sentence),
            other => Self::new(StatusCode::SERVICE_UNAVAILABLE, hurtig_dataflow::error::describe(&other)),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        json_response(self.status, &json!({ "errors": [self.sentence] }))
    }
}

/// An answer in JSON.
pub fn json_response(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json; charset=UTF-8")], value.to_string()).into_response()
}

/// What a handler returns that answers in JSON.
pub struct Answer(pub StatusCode, pub serde_json::Value);

impl From<serde_json::Value> for Answer {
    fn from(value: serde_json::Value) -> Self {
        Answer(StatusCode::OK, value)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        json_response(self.0, &self.1)
    }
}

/// The result of a handler.
pub type Result<T = Answer> = std::result::Result<T, ApiError>;
