//! Keeps pages up to date: sends the regions of a page that have changed, as server-sent events.

use crate::app::{App, Shared};
use crate::page::{self, Region};
use axum::extract::Query;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How often a page is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Which page.
#[derive(Deserialize)]
pub struct Which {
    page: String,
}

struct Watched {
    app: Arc<App>,
    path: String,
    sent: HashMap<&'static str, String>,
    is_first: bool,
}

/// GET `/web/live?page=…`.
pub async fn events(
    app: Shared,
    Query(which): Query<Which>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let watched = Watched { app: Arc::clone(&app.0), path: which.page, sent: HashMap::new(), is_first: true };
    let events = stream::unfold(watched, |mut watched| async move {
        if !std::mem::take(&mut watched.is_first) {
            tokio::time::sleep(INTERVAL).await;
        }
        let events = watched.look().await;
        Some((stream::iter(events.into_iter().map(Ok)), watched))
    });
    Sse::new(events.flatten()).keep_alive(KeepAlive::default())
}

impl Watched {
    /// What has changed. There is always something: that tells the page that it is up to date.
    async fn look(&mut self) -> Vec<Event> {
        let regions = match page::live_page(&self.app, &self.path).await {
            Ok(page) => page.regions,
            Err(error) => {
                let sentence = error.into_api().sentence;
                return vec![Event::default().event("lost").data(one_line(&sentence))];
            }
        };
        let mut events: Vec<Event> = regions.into_iter().filter_map(|region| self.changed(region)).collect();
        events.push(Event::default().event("beat").data("1"));
        events
    }

    fn changed(&mut self, region: Region) -> Option<Event> {
        let content = region.content.into_string();
        if self.sent.get(region.id) == Some(&content) {
            return None;
        }
        let data = serde_json::json!({ "id": region.id, "html": content }).to_string();
        self.sent.insert(region.id, content);
        Some(Event::default().data(data))
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}
