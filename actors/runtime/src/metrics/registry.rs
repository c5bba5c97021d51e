//! A recorder that keeps the last value of each metric, and writes them as text.

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the buckets of histograms.
const BOUNDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 10_000.0];

#[derive(Clone)]
enum Value {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// One number of a value, as it is told: a histogram is several.
struct Part {
    /// What its name has behind that of the metric.
    ending: &'static str,
    /// The upper bound, of a bucket.
    bound: Option<String>,
    value: f64,
    is_counter: bool,
}

impl Value {
    fn parts(&self) -> Vec<Part> {
        let part = |ending, bound, value, is_counter| Part { ending, bound, value, is_counter };
        match self {
            Value::Counter(value) => vec![part("", None, value.load(Relaxed) as f64, true)],
            Value::Gauge(value) => vec![part("", None, f64::from_bits(value.load(Relaxed)), false)],
            Value::Histogram(buckets) => {
                let counts = *buckets.0.lock();
                let below = BOUNDS.iter().zip(counts.below).map(|(bound, count)| (bound.to_string(), count));
                let buckets = below.chain([("+Inf".to_string(), counts.count)]);
                let buckets = buckets.map(|(bound, count)| part("_bucket", Some(bound), count as f64, true));
                // A sum may have a fraction.
                let sum = part("_sum", None, counts.sum, false);
                buckets.chain([sum, part("_count", None, counts.count as f64, true)]).collect()
            }
        }
    }
}

#[derive(Default)]
struct Buckets(Mutex<Counts>);

#[derive(Clone, Copy, Default)]
struct Counts {
    below: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let mut counts = self.0.lock();
        for (count, bound) in counts.below.iter_mut().zip(BOUNDS) {
            *count += u64::from(value <= bound);
        }
        counts.count += 1;
        counts.sum += value;
    }
}

/// Readings of what the functions of one subtask record, and characters of a name with its labels: more is not recorded.
const MOST_READINGS: usize = 300;
const LONGEST_KEY: usize = 200;

/// Names and values of labels.
type Labels = Vec<(String, String)>;

/// One value, to be sent to another system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The metric's name; of a histogram with `_bucket`, whose label `le` is the upper bound, `_sum` or `_count`.
    pub name: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
    /// Whether it is a counter.
    pub is_counter: bool,
}

impl Reading {
    /// The name with the labels, for where there is no other place for them.
    pub fn full_name(&self) -> String {
        let labels = self.labels.iter().map(|(key, value)| format!(".{key}.{value}"));
        std::iter::once(self.name.clone()).chain(labels).collect()
    }
}

/// The last values of all metrics, by name.
#[derive(Default)]
pub struct Registry {
    values: Mutex<BTreeMap<String, BTreeMap<Labels, Value>>>,
    readings: AtomicU64,
    /// Readings that it may come to, if there is a limit.
    most: Option<u64>,
    meanings: Mutex<BTreeMap<String, String>>,
}

impl Registry {
    /// One for what users' functions record, who may name more than memory has room for.
    pub fn of_functions() -> Self {
        Registry { most: Some(MOST_READINGS as u64), ..Registry::default() }
    }

    /// The value under a key; `None` if there are too many.
    fn value(&self, key: &Key, make: impl FnOnce() -> Value) -> Option<Value> {
        let labels: Vec<_> =
            key.labels().map(|label| (label.key().to_string(), label.value().to_string())).collect();
        let mut values = self.values.lock();
        if let Some(value) = values.get(key.name()).and_then(|of_name| of_name.get(&labels)) {
            return Some(value.clone());
        }
        let value = make();
        if let Some(most) = self.most {
            let length =
                key.name().len() + labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            let readings = match value {
                Value::Histogram(_) => BOUNDS.len() as u64 + 3,
                Value::Counter(_) | Value::Gauge(_) => 1,
            };
            let all = self.readings.load(Relaxed) + readings;
            if length > LONGEST_KEY || all > most {
                return None;
            }
            self.readings.store(all, Relaxed);
        }
        values.entry(key.name().to_string()).or_default().insert(labels, value.clone());
        Some(value)
    }

    fn describe(&self, name: KeyName, meaning: SharedString) {
        if self.most.is_some() {
            // What is told of functions has none.
            return;
        }
        self.meanings.lock().entry(name.as_str().to_string()).or_insert_with(|| meaning.into_owned());
    }

    /// All values.
    pub fn readings(&self) -> Vec<Reading> {
        let mut readings = Vec::new();
        for (name, values) in &*self.values.lock() {
            for (labels, value) in values {
                for Part { ending, bound, value, is_counter } in value.parts() {
                    let bound = bound.map(|bound| ("le".to_string(), bound));
                    let labels = labels.iter().cloned().chain(bound).collect();
                    readings.push(Reading { name: format!("{name}{ending}"), labels, value, is_counter });
                }
            }
        }
        readings
    }

    /// All values, as text that Prometheus reads.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        let meanings = self.meanings.lock();
        for (name, values) in &*self.values.lock() {
            let name = clean(name);
            let kind = match values.values().next() {
                Some(Value::Counter(_)) => "counter",
                Some(Value::Gauge(_)) => "gauge",
                Some(Value::Histogram(_)) => "histogram",
                None => continue,
            };
            if let Some(meaning) = meanings.get(&name) {
                let _ = writeln!(text, "# HELP {name} {}", meaning.replace('\\', "\\\\").replace('\n', " "));
            }
            let _ = writeln!(text, "# TYPE {name} {kind}");
            for (labels, value) in values {
                for Part { ending, bound, value, .. } in value.parts() {
                    line(&mut text, &format!("{name}{ending}"), labels, bound, value);
                }
            }
        }
        text
    }
}

/// A name in which only what Prometheus allows is left.
fn clean(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | ':') { c } else { '_' }).collect()
}

/// A label's name, of which Prometheus allows less.
fn clean_label(name: &str) -> String {
    let name = clean(name).replace(':', "_");
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { name } else { format!("_{name}") }
}

fn line(text: &mut String, name: &str, labels: &[(String, String)], bound: Option<String>, value: f64) {
    text.push_str(name);
    let bound = bound.map(|bound| ("le".to_string(), bound));
    for (at, (key, value)) in labels.iter().chain(&bound).enumerate() {
        text.push(if at == 0 { '{' } else { ',' });
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{}=\"{value}\"", clean_label(key));
    }
    if bound.is_some() || !labels.is_empty() {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

impl Recorder for Registry {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.describe(name, meaning);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.describe(name, meaning);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.describe(name, meaning);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.value(key, || Value::Counter(Arc::default())) {
            Some(Value::Counter(value)) => Counter::from_arc(value),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.value(key, || Value::Gauge(Arc::default())) {
            Some(Value::Gauge(value)) => Gauge::from_arc(value),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.value(key, || Value::Histogram(Arc::default())) {
            Some(Value::Histogram(value)) => Histogram::from_arc(value),
            _ => Histogram::noop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_through_the_facade_is_written_as_prometheus_reads_it() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            metrics::describe_counter!("tea.cups", "Cups of tea.");
            metrics::counter!("tea.cups", "kind" => "green \"leaf\"").increment(3);
            metrics::gauge!("pot_degrees").set(81.5);
            metrics::histogram!("steep").record(0.7);
        });
        let text = registry.prometheus();
        let expected =
            ["tea_cups{kind=\"green \\\"leaf\\\"\"} 3", "# TYPE pot_degrees gauge", "pot_degrees 81.5"];
        for line in expected.into_iter().chain([
            "steep_bucket{le=\"1\"} 1",
            "steep_bucket{le=\"0.5\"} 0",
            "steep_sum 0.7",
        ]) {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        let readings = registry.readings();
        assert_eq!(readings.len(), 2 + BOUNDS.len() + 3);
        let of = |name: &str| readings.iter().find(|reading| reading.name == name).map(|found| found.value);
        assert_eq!([of("tea.cups"), of("steep_sum"), of("steep_count")], [Some(3.0), Some(0.7), Some(1.0)]);
    }

    #[test]
    fn a_function_that_makes_metrics_without_end_fills_no_memory() {
        let registry = Registry::of_functions();
        metrics::with_local_recorder(&registry, || {
            for n in 0..2_000 {
                metrics::counter!("users", "id" => n.to_string()).increment(1);
                metrics::gauge!(format!("user_{n}")).set(1.0);
                metrics::counter!("long", "name" => "x".repeat(n)).increment(1);
            }
            metrics::counter!("users", "id" => "0").increment(1);
        });
        let readings = registry.readings();
        assert_eq!(readings.len(), MOST_READINGS);
        assert_eq!(readings.iter().map(|reading| reading.value).sum::<f64>(), MOST_READINGS as f64 + 1.0);
        assert!(registry.values.lock().len() <= MOST_READINGS);
    }
}
