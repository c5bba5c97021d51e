//! A chart of a number over the last minutes, as a drawing without a script.

use super::words;
use maud::{Markup, html};

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 90.0;
const SPAN_MS: i64 = 300_000;

/// Draws points of time and value. `most` is the top of the scale; without it the largest value is.
pub fn chart(title: &str, points: &[(i64, f64)], most: Option<f64>, show: fn(f64) -> String) -> Markup {
    let last = points.last().copied().unwrap_or_default();
    let top = most.unwrap_or_else(|| points.iter().map(|(_, value)| *value).fold(0.0, f64::max)).max(1e-9);
    let x = |at: i64| WIDTH - (last.0 - at) as f64 / SPAN_MS as f64 * WIDTH;
    let y = |value: f64| HEIGHT - 2.0 - (value / top).min(1.0) * (HEIGHT - 4.0);
    let shown: Vec<_> = points.iter().filter(|(at, _)| last.0 - at <= SPAN_MS).collect();
    let line: Vec<String> =
        shown.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
    let first_x = shown.first().map_or(WIDTH, |(at, _)| x(*at));
    let area = format!("{first_x:.1},{HEIGHT} {} {WIDTH},{HEIGHT}", line.join(" "));
    html! {
        figure.chart {
            figcaption { (title) " " strong { (show(last.1)) } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                aria-label={ (title) ", now " (show(last.1)) ", at most " (show(top)) } {
                line.grid x1="0" y1="2" x2=(WIDTH) y2="2" {}
                line.grid x1="0" y1=(HEIGHT / 2.0) x2=(WIDTH) y2=(HEIGHT / 2.0) {}
                @if shown.len() > 1 {
                    polygon.area points=(area) {}
                    polyline.line points=(line.join(" ")) {}
                }
            }
            div.scale { span { "5 min ago" } span { "top " (show(top)) } span { "now" } }
        }
    }
}

/// Shares of time as a bar: at work, without credit, and the rest.
pub fn bar(busy: f64, backpressured: f64) -> Markup {
    let label = format!("busy {}, backpressured {}", words::percent(busy), words::percent(backpressured));
    html! {
        svg.bar viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(label) {
            rect.idle x="0" y="0" width="100" height="8" {}
            rect.busy x="0" y="0" width=(format!("{:.1}", busy * 100.0)) height="8" {}
            rect.pressed x=(format!("{:.1}", busy * 100.0)) y="0"
                width=(format!("{:.1}", backpressured * 100.0)) height="8" {}
        }
    }
}
