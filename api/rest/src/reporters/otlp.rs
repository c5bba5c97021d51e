//! OTLP over HTTP, in its JSON encoding (OpenTelemetry Protocol Specification 1.5, "JSON Protobuf Encoding").
//!
//! Counters are cumulative sums, everything else is a gauge.

use hurtig_runtime::metrics::registry::Reading;
use serde_json::{Value, json};
use std::io;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u32 = 2;

/// Sends what was read at a time, in milliseconds since 1970.
pub(super) async fn send(address: &str, readings: &[Reading], now: i64) -> io::Result<()> {
    let url = format!("{}/v1/metrics", address.trim_end_matches('/'));
    let body = request(readings, now).to_string();
    let client = reqwest::Client::builder().build().map_err(io::Error::other)?;
    let sent = client.post(url).header("content-type", "application/json").body(body).send().await;
    let answer = sent.map_err(|error| io::Error::other(hurtig_dataflow::error::describe(&error)))?;
    if answer.status().is_success() {
        return Ok(());
    }
    Err(io::Error::other(format!("it answers {}", answer.status())))
}

fn request(readings: &[Reading], now: i64) -> Value {
    let metrics = readings.chunk_by(|a, b| a.name == b.name && a.is_counter == b.is_counter);
    let metrics: Vec<Value> = metrics.map(|readings| metric(readings, now)).collect();
    json!({
        "resourceMetrics": [{
            "resource": { "attributes": [attribute("service.name", "hurtig")] },
            "scopeMetrics": [{
                "scope": { "name": "hurtig", "version": env!("CARGO_PKG_VERSION") },
                "metrics": metrics,
            }],
        }],
    })
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// Readings of one name.
fn metric(readings: &[Reading], now: i64) -> Value {
    let point = |reading: &Reading| {
        let attributes = reading.labels.iter().map(|(key, value)| attribute(key, value));
        // Numbers of 64 bits are strings there.
        json!({
            "attributes": attributes.collect::<Vec<_>>(),
            "timeUnixNano": (now * 1_000_000).to_string(),
            "asDouble": reading.value,
        })
    };
    let points: Vec<Value> = readings.iter().map(point).collect();
    let mut metric = json!({ "name": readings[0].name });
    match readings[0].is_counter {
        true => {
            metric["sum"] =
                json!({ "aggregationTemporality": CUMULATIVE, "isMonotonic": true, "dataPoints": points });
        }
        false => metric["gauge"] = json!({ "dataPoints": points }),
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(name: &str, subtask: usize, value: f64, is_counter: bool) -> Reading {
        let labels = vec![("subtask_index".to_string(), subtask.to_string())];
        Reading { name: name.to_string(), labels, value, is_counter }
    }

    #[test]
    fn readings_of_one_name_are_points_of_one_metric() {
        let readings =
            [reading("in", 0, 3.0, true), reading("in", 1, 4.5, true), reading("busy", 0, 0.5, false)];
        let request = request(&readings, 1_700_000_000_123);
        let metrics = &request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        assert_eq!(metrics.as_array().map(Vec::len), Some(2));
        let sum = &metrics[0]["sum"];
        assert_eq!((&metrics[0]["name"], &sum["isMonotonic"]), (&json!("in"), &json!(true)));
        assert_eq!(sum["dataPoints"][1]["asDouble"], 4.5);
        assert_eq!(sum["dataPoints"][1]["timeUnixNano"], "1700000000123000000");
        assert_eq!(sum["dataPoints"][1]["attributes"][0], attribute("subtask_index", "1"));
        assert_eq!(metrics[1]["gauge"]["dataPoints"][0]["asDouble"], 0.5);
    }
}
