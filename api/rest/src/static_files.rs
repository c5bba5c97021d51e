//! What the page needs besides itself: a style sheet, a script, an icon; or the files of another page in its place.

use crate::app::Shared;
use crate::error::{ApiError, Result};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use std::path::{Component, Path, PathBuf};

fn of_type(content_type: &'static str, content: impl Into<axum::body::Body>) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "max-age=300")];
    (headers, content.into()).into_response()
}

/// GET `/web/style.css`.
pub async fn style() -> Response {
    of_type("text/css; charset=utf-8", include_str!("assets/style.css"))
}

/// GET `/web/live.js`.
pub async fn script() -> Response {
    of_type("text/javascript; charset=utf-8", include_str!("assets/live.js"))
}

/// GET `/web/icon.svg`.
pub async fn icon() -> Response {
    of_type("image/svg+xml", include_str!("assets/icon.svg"))
}

/// A file of the folder that is served in place of the page.
pub async fn file(app: Shared, uri: Uri) -> Result<Response> {
    let missing = || ApiError::not_found(format!("there is nothing at {}", uri.path()));
    let folder = app.web_dir.as_ref().ok_or_else(missing)?;
    let path = within(folder, uri.path()).ok_or_else(missing)?;
    let content = tokio::task::spawn_blocking(move || std::fs::read(&path).map(|content| (path, content)));
    let (path, content) = content.await.map_err(|_| missing())?.map_err(|_| missing())?;
    let content_type = match path.extension().and_then(|ending| ending.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" => "application/json",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        _ => "application/octet-stream",
    };
    Ok(of_type(content_type, content))
}

/// The file that a path of an address names, if that is one in the folder: no step leads up or elsewhere.
fn within(folder: &Path, path: &str) -> Option<PathBuf> {
    let relative = path.trim_start_matches('/');
    let relative = if relative.is_empty() { "index.html" } else { relative };
    let is_plain = Path::new(relative).components().all(|part| matches!(part, Component::Normal(_)));
    // A link within the folder must not lead out of it either.
    let found = is_plain.then(|| folder.join(relative).canonicalize().ok()).flatten()?;
    found.starts_with(folder.canonicalize().ok()?).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_folder_are_served() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("web");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outer.path().join("secret"), "s").unwrap();
        std::fs::write(folder.join("index.html"), "i").unwrap();
        std::os::unix::fs::symlink(outer.path().join("secret"), folder.join("link")).unwrap();
        assert!(within(&folder, "/").is_some());
        for path in ["/../secret", "/link", "//etc/passwd", "/./../secret", "/missing"] {
            assert_eq!(within(&folder, path), None, "{path}");
        }
    }
}
