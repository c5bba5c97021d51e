//! The job graph, drawn from left to right in layers: a vertex is one layer behind the last that it reads from, and within
//! its layer at about the height of those.

use super::words;
use crate::view::{View, subtask_state};
use hurtig_runtime::observe::rates::Rates;
use maud::{Markup, html};

const NODE_WIDTH: f64 = 230.0;
const NODE_HEIGHT: f64 = 112.0;
const GAP_X: f64 = 110.0;
const GAP_Y: f64 = 28.0;
const MARGIN: f64 = 10.0;
const NAME_CHARS: usize = 30;

/// How often layers are put in the order of those before and behind them.
const SWEEPS: usize = 8;

/// Where each vertex is: its layer, and its place within it.
pub fn layout(vertices: usize, edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut layer = vec![0; vertices];
    // No path is longer than there are vertices, and a job graph has no cycle.
    for _ in 0..vertices {
        for (from, to) in edges {
            layer[*to] = layer[*to].max(layer[*from] + 1);
        }
    }
    let depth = layer.iter().max().map_or(0, |last| last + 1);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); depth];
    for (vertex, at) in layer.iter().enumerate() {
        layers[*at].push(vertex);
    }
    let mut place = vec![0.0; vertices];
    for sweep in 0..SWEEPS {
        for at in 0..depth {
            let at = if sweep % 2 == 0 { at } else { depth - 1 - at };
            let mean = |vertex: usize, place: &[f64]| {
                let neighbours: Vec<f64> = edges
                    .iter()
                    .filter_map(|(from, to)| match sweep % 2 {
                        0 => (*to == vertex).then_some(place[*from]),
                        _ => (*from == vertex).then_some(place[*to]),
                    })
                    .collect();
                match neighbours.len() {
                    0 => place[vertex],
                    count => neighbours.iter().sum::<f64>() / count as f64,
                }
            };
            layers[at].sort_by(|one, two| mean(*one, &place).total_cmp(&mean(*two, &place)));
            let count = layers[at].len() as f64;
            for (index, vertex) in layers[at].iter().enumerate() {
                place[*vertex] = index as f64 - (count - 1.0) / 2.0;
            }
        }
    }
    let index = |vertex: usize| layers[layer[vertex]].iter().position(|other| *other == vertex);
    (0..vertices).map(|vertex| (layer[vertex], index(vertex).unwrap_or_default())).collect()
}

/// How a vertex is coloured: by what its subtasks spend their time with.
fn heat(rates: &Rates) -> &'static str {
    match (rates.busy, rates.backpressured) {
        (_, pressed) if pressed > 0.5 => "pressed-high",
        (busy, _) if busy > 0.8 => "busy-high",
        (_, pressed) if pressed > 0.1 => "pressed-low",
        (busy, _) if busy > 0.4 => "busy-low",
        _ => "calm",
    }
}

/// The operators of a vertex as lines: as many as fit.
fn lines(name: &str) -> Vec<String> {
    let operators: Vec<&str> = name.split(" -> ").collect();
    let shorten = |text: &str| match text.chars().count() > NAME_CHARS {
        true => text.chars().take(NAME_CHARS - 1).chain(['…']).collect(),
        false => text.to_string(),
    };
    let mut lines: Vec<String> = operators.iter().take(2).map(|operator| shorten(operator)).collect();
    if operators.len() > 2 {
        let last = operators.last().copied().unwrap_or_default();
        let between = match operators.len() {
            3 => shorten(last),
            more => shorten(&format!("… {} more, {last}", more - 3)),
        };
        lines.push(between);
    }
    lines
}

/// Draws the graph of a job.
pub fn graph(view: &View) -> Markup {
    let graph = &view.job.graph;
    let edges: Vec<(usize, usize)> = graph.edges.iter().map(|(from, to, _)| (*from, *to)).collect();
    let places = layout(graph.vertices.len(), &edges);
    let rows = places.iter().map(|(_, at)| at + 1).max().unwrap_or(1);
    let columns = places.iter().map(|(layer, _)| layer + 1).max().unwrap_or(1);
    let height = rows as f64 * (NODE_HEIGHT + GAP_Y) - GAP_Y + 2.0 * MARGIN;
    let width = columns as f64 * (NODE_WIDTH + GAP_X) - GAP_X + 2.0 * MARGIN;
    let in_layer = |layer: usize| places.iter().filter(|(other, _)| *other == layer).count();
    let position = |vertex: usize| {
        let (layer, at) = places[vertex];
        let free = (rows - in_layer(layer)) as f64 * (NODE_HEIGHT + GAP_Y) / 2.0;
        (MARGIN + layer as f64 * (NODE_WIDTH + GAP_X), MARGIN + free + at as f64 * (NODE_HEIGHT + GAP_Y))
    };
    html! {
        div.graph tabindex="0" role="group" aria-label="Job graph" {
            svg viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height) {
                defs {
                    marker #arrow viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" {
                        path d="M0,0 L8,4 L0,8 Z" {}
                    }
                }
                @for (number, (from, to, way)) in graph.edges.iter().enumerate() {
                    (edge(view, number, position(*from), position(*to), *from, way))
                }
                @for vertex in 0..graph.vertices.len() { (node(view, vertex, position(vertex))) }
            }
        }
    }
}

/// Records per second over an edge: those of the sender, parted by its edges as they were in all.
fn edge_rate(view: &View, number: usize, from: usize) -> f64 {
    let outputs: Vec<usize> = view
        .job
        .graph
        .edges
        .iter()
        .enumerate()
        .filter(|(_, edge)| edge.0 == from)
        .map(|(at, _)| at)
        .collect();
    let at = outputs.iter().position(|output| *output == number).unwrap_or_default();
    let rate = |subtask: crate::view::SubtaskView<'_>| {
        let report = &subtask.seen?.report;
        let share = *report.edges.get(at)? as f64 / report.records_out.max(1) as f64;
        Some(subtask.rates.records_out * share)
    };
    view.subtasks(from).filter_map(rate).sum()
}

fn edge(view: &View, number: usize, from: (f64, f64), to: (f64, f64), sender: usize, way: &str) -> Markup {
    let (x1, y1) = (from.0 + NODE_WIDTH, from.1 + NODE_HEIGHT / 2.0);
    let (x2, y2) = (to.0 - 2.0, to.1 + NODE_HEIGHT / 2.0);
    let bend = (x2 - x1) / 2.0;
    let path = format!("M{x1:.0},{y1:.0} C{:.0},{y1:.0} {:.0},{y2:.0} {x2:.0},{y2:.0}", x1 + bend, x2 - bend);
    // On a long edge beside its beginning: the middle may be behind another vertex.
    let (x, y) = if x2 - x1 > GAP_X + 10.0 {
        (x1 + GAP_X / 2.0, y1 - 4.0)
    } else {
        ((x1 + x2) / 2.0, (y1 + y2) / 2.0)
    };
    let rate = edge_rate(view, number, sender);
    html! {
        path.edge d=(path) marker-end="url(#arrow)" {}
        text.way x=(format!("{x:.0}")) y=(format!("{:.0}", y + 15.0)) { (way) }
        text.rate x=(format!("{x:.0}")) y=(format!("{:.0}", y - 6.0)) { (words::rate(rate)) "/s" }
    }
}

fn node(view: &View, vertex: usize, (x, y): (f64, f64)) -> Markup {
    let (summary, rates) = (view.summary(vertex), view.rates(vertex));
    let state = subtask_state(view.state(vertex));
    let link = format!("/web/jobs/{}/vertices/{}", view.job.status.id, view.vertex_id(vertex));
    let label = format!(
        "{}, {} subtasks, {state}, busy {}, backpressured {}",
        summary.name,
        summary.parallelism,
        words::percent(rates.busy),
        words::percent(rates.backpressured)
    );
    let bar = NODE_WIDTH - 24.0;
    let (busy, pressed) = (rates.busy * bar, rates.backpressured.min(1.0 - rates.busy).max(0.0) * bar);
    let at = |dx: f64| format!("{:.1}", x + dx);
    let down = |dy: f64| format!("{:.1}", y + dy);
    html! {
        a href=(link) aria-label=(label) {
            g class={ "node " (heat(&rates)) } {
                title { (words::name(&summary.name)) }
                rect.box x=(at(0.0)) y=(down(0.0)) width=(NODE_WIDTH) height=(NODE_HEIGHT) rx="8" {}
                @for (number, line) in lines(&summary.name).iter().enumerate() {
                    text.name x=(at(12.0)) y=(down(22.0 + 17.0 * number as f64)) { (line) }
                }
                text.small x=(at(12.0)) y=(down(78.0)) {
                    (summary.parallelism) " × " (state.to_lowercase())
                }
                text.small x=(at(12.0)) y=(down(104.0)) {
                    "busy " (words::percent(rates.busy)) " · backpressured " (words::percent(rates.backpressured))
                }
                rect.idle x=(at(12.0)) y=(down(84.0)) width=(bar) height="6" rx="2" {}
                rect.busy x=(at(12.0)) y=(down(84.0)) width=(format!("{busy:.1}")) height="6" {}
                rect.pressed x=(at(12.0 + busy)) y=(down(84.0)) width=(format!("{pressed:.1}")) height="6" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vertex_lies_behind_all_that_it_reads_from() {
        let edges = [(0, 2), (1, 2), (2, 3), (0, 3), (3, 4), (2, 5)];
        let places = layout(6, &edges);
        assert!(edges.iter().all(|(from, to)| places[*from].0 < places[*to].0), "{places:?}");
        let distinct: std::collections::BTreeSet<_> = places.iter().collect();
        assert_eq!(distinct.len(), 6);
    }

    #[test]
    fn edges_between_two_layers_do_not_cross_where_they_need_not() {
        // 0 and 1 feed 3 and 2.
        let places = layout(4, &[(0, 3), (1, 2)]);
        assert_eq!(places[0].1 < places[1].1, places[3].1 < places[2].1);
    }

    #[test]
    fn long_names_are_shortened() {
        assert_eq!(lines("a -> b -> c -> d -> e"), ["a", "b", "… 2 more, e"]);
        assert!(lines(&"x".repeat(99))[0].chars().count() <= NAME_CHARS);
    }
}
