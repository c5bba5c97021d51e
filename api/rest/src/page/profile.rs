//! The flame graph of a worker.

use super::{Page, PageResult, job_head, words};
use crate::app::Shared;
use crate::error::ApiError;
use crate::handlers::profile::{Node, sample};
use axum::extract::{Path, Query};
use hurtig_runtime::worker::links::WorkerId;
use maud::{Markup, html};
use serde::Deserialize;
use std::time::Duration;

/// How long a worker is sampled.
const DURATION: Duration = Duration::from_secs(3);

/// Size of the graph, and of one function's row, in units of its own.
const WIDTH: f64 = 1_200.0;
const ROW: f64 = 17.0;

/// Functions that are narrower are not drawn.
const NARROWEST: f64 = 0.7;

/// Calls within one another that are drawn.
const DEEPEST: usize = 90;

/// About so many units wide is a character.
const CHARACTER: f64 = 6.6;

/// Which worker.
#[derive(Deserialize)]
pub struct Which {
    worker: Option<String>,
}

/// A function as it is drawn.
struct Block<'a> {
    name: &'a str,
    count: u64,
    depth: usize,
    from: f64,
    width: f64,
}

/// GET `/web/jobs/:job/profile?worker=…`.
pub async fn page(app: Shared, Path(id): Path<String>, Query(which): Query<Which>) -> PageResult {
    let view = app.view(&id).await?;
    let workers: Vec<WorkerId> = view.job.seen.workers.keys().copied().collect();
    let graph = match which.worker {
        None => None,
        Some(text) => {
            let wanted = u64::from_str_radix(&text, 16).ok().map(WorkerId);
            let wanted = wanted.filter(|wanted| workers.contains(wanted));
            let worker = wanted.ok_or_else(|| ApiError::not_found("the job has no such worker"))?;
            let profile = sample(&app, &view, worker, DURATION).await?;
            Some((worker, Node::of(&[profile])))
        }
    };
    let is_over = view.job.status.state.is_terminal();
    let head = html! {
        (job_head(&view, "/profile"))
        @if is_over { p.quiet { "The job has ended: there is nothing to sample." } } @else {
            p { "Where a worker spends its processor time, sampled for " (DURATION.as_secs()) " seconds when you choose it:" }
            ul.plain { @for worker in &workers {
                li {
                    a href={ "/web/jobs/" (id) "/profile?worker=" (worker) } { "Worker " code { (worker) } }
                    @if let Some(on) = view.job.placed.get(worker) { " on " (on) }
                }
            } }
        }
        @if let Some((worker, root)) = &graph {
            h2 { "Worker " code { (worker) } }
            @if root.count == 0 { p.notice { "It did nothing in this time." } } @else { (flames(root)) }
        }
    };
    let title = format!("Flame graph of {}", view.job.status.name);
    Ok(Page { title, head, regions: Vec::new(), foot: html! {}, is_live: false })
}

fn blocks<'a>(node: &'a Node, (depth, from, unit): (usize, f64, f64), into: &mut Vec<Block<'a>>) {
    let mut at = from;
    for (name, called) in &node.calls {
        let width = called.count as f64 * unit;
        if width >= NARROWEST && depth < DEEPEST {
            into.push(Block { name, count: called.count, depth, from: at, width });
            blocks(called, (depth + 1, at, unit), into);
        }
        at += width;
    }
}

fn flames(root: &Node) -> Markup {
    let mut all = Vec::new();
    blocks(root, (0, 0.0, WIDTH / root.count as f64), &mut all);
    let rows = all.iter().map(|block| block.depth + 1).max().unwrap_or(1);
    html! {
        p.quiet { (root.count) " samples; callers above what they call, as wide as they were at work. Point at a function for its name and share." }
        div.scroll {
            svg.flames viewBox={ "0 0 " (WIDTH) " " (rows as f64 * ROW) } width=(WIDTH) role="img" aria-label="Flame graph" {
                @for block in &all { (drawn(block, root.count)) }
            }
        }
        (table(root))
    }
}

fn drawn(block: &Block<'_>, all: u64) -> Markup {
    let share = words::percent(block.count as f64 / all as f64);
    let short = shortened(block.name);
    let room = (block.width / CHARACTER) as usize;
    let shown: String = short.chars().take(room).collect();
    html! {
        g {
            title { (block.name) ", " (share) }
            rect class={ "flame " (kind(block.name)) } x=(format!("{:.1}", block.from)) y=(block.depth as f64 * ROW)
                width=(format!("{:.1}", block.width)) height=(ROW - 1.0) {}
            @if shown.chars().count() > 2 {
                text x=(format!("{:.1}", block.from + 2.0)) y=(block.depth as f64 * ROW + 12.0) { (shown) }
            }
        }
    }
}

/// The same for those who cannot see or point: the functions at work most of the time, by themselves.
fn table(root: &Node) -> Markup {
    let mut own = std::collections::BTreeMap::new();
    gather(root, &mut own);
    let mut own: Vec<_> = own.into_iter().collect();
    own.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    html! {
        h3 { "At work themselves" }
        div.scroll { table {
            thead { tr { th.number scope="col" { "Share" } th scope="col" { "Function" } } }
            tbody { @for (name, count) in own.iter().take(25) {
                tr { td.number { (words::percent(*count as f64 / root.count as f64)) } td.text { code { (name) } } }
            } }
        } }
    }
}

fn gather<'a>(node: &'a Node, own: &mut std::collections::BTreeMap<&'a str, u64>) {
    for (name, called) in &node.calls {
        let within: u64 = called.calls.values().map(|node| node.count).sum();
        *own.entry(name).or_default() += called.count - within;
        gather(called, own);
    }
}

/// A path without the modules before its last two parts.
fn shortened(name: &str) -> &str {
    let mut depth = 0i32;
    let mut parts = Vec::new();
    for (at, c) in name.char_indices() {
        match c {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            ':' if depth == 0 && name[at..].starts_with("::") => parts.push(at + 2),
            _ => {}
        }
    }
    parts.len().checked_sub(2).map_or(name, |at| &name[parts[at]..])
}

/// Whose function it is, for its colour.
fn kind(name: &str) -> &'static str {
    match name {
        _ if name.contains("hurtig") => "ours",
        _ if ["tokio", "ractor", "std::", "core::", "alloc::", "<std", "<core", "<alloc"]
            .iter()
            .any(|part| name.starts_with(part)) =>
        {
            "frame"
        }
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_runtime::protocol::Profile;

    #[test]
    fn blocks_are_as_wide_as_what_they_stand_for_and_lie_below_their_callers() {
        let stack = |names: &[&str], count| (names.iter().map(|name| name.to_string()).collect(), count);
        let stacks = vec![stack(&["main", "a"], 3), stack(&["main", "b", "a"], 1)];
        let root = Node::of(&[Profile { at: 0, stacks }]);
        let mut all = Vec::new();
        blocks(&root, (0, 0.0, WIDTH / 4.0), &mut all);
        let found: Vec<_> =
            all.iter().map(|block| (block.name, block.depth, block.from, block.width)).collect();
        let expected =
            [("main", 0, 0.0, 1_200.0), ("a", 1, 0.0, 900.0), ("b", 1, 900.0, 300.0), ("a", 2, 900.0, 300.0)];
        assert_eq!(found, expected);
        let mut own = std::collections::BTreeMap::new();
        gather(&root, &mut own);
        assert_eq!(own.into_iter().collect::<Vec<_>>(), [("a", 4), ("b", 0), ("main", 0)]);
    }

    #[test]
    fn names_are_shortened_to_what_tells_them_apart() {
        assert_eq!(shortened("a::b::c::d"), "c::d");
        assert_eq!(shortened("<a::B as c::D>::e"), "<a::B as c::D>::e");
        assert_eq!(shortened("main"), "main");
    }
}
