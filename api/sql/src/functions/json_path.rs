//! Paths into JSON, such as `$.a.b[0]`. They lead to a piece of the text, without a tree of what the text says.

use datafusion_common::{Result, plan_err};
use serde::de::IgnoredAny;

/// A step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    /// From 0.
    Item(usize),
}

/// A path such as `$.a.b[0]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

impl Path {
    pub(super) fn read(text: &str) -> Result<Path> {
        let refused = |why: &str| plan_err!("JSON path '{text}': {why}");
        let path = text.trim();
        // A piece that is missing is NULL in both modes, as there is no clause here that says otherwise.
        let path = ["lax ", "strict "].iter().find_map(|mode| path.strip_prefix(mode)).unwrap_or(path).trim();
        let Some(mut rest) = path.strip_prefix('$') else { return refused("it begins with $") };
        let mut steps = Vec::new();
        while let Some(first) = rest.chars().next() {
            match first {
                '.' => {
                    let name = &rest[1..];
                    let end = name.find(['.', '[']).unwrap_or(name.len());
                    if end == 0 || name.starts_with('*') {
                        return refused("a name is expected behind the point; wildcards are not supported");
                    }
                    steps.push(Step::Member(name[..end].trim_matches('"').to_string()));
                    rest = &name[end..];
                }
                '[' => {
                    let Some((index, behind)) = rest[1..].split_once(']') else {
                        return refused("a bracket is not closed");
                    };
                    let index = index.trim();
                    let quoted =
                        ['\'', '"'].iter().find_map(|quote| index.strip_prefix(*quote)?.strip_suffix(*quote));
                    steps.push(match (quoted, index.parse()) {
                        (Some(name), _) => Step::Member(name.to_string()),
                        (None, Ok(index)) => Step::Item(index),
                        (None, Err(_)) => return refused("brackets take an index or a name in quotes"),
                    });
                    rest = behind;
                }
                _ => return refused("steps are .name, ['name'] and [index]"),
            }
        }
        Ok(Path(steps))
    }

    /// The piece of a text that the path leads to. The text must be JSON.
    pub(super) fn find<'a>(&self, json: &'a str) -> Option<&'a str> {
        let mut json = json.trim();
        for step in &self.0 {
            json = match step {
                Step::Member(wanted) => members(json)?.find(|(name, _)| is_text(name, wanted))?.1,
                Step::Item(index) => items(json)?.nth(*index)?,
            };
        }
        Some(json)
    }
}

/// Whether a string of JSON is a text.
fn is_text(json: &str, wanted: &str) -> bool {
    let inner = &json[1..json.len() - 1];
    if inner.contains('\\') { text_of(json).as_deref() == Some(wanted) } else { inner == wanted }
}

pub(super) fn text_of(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// Members of an object.
fn members(json: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let mut rest = json.strip_prefix('{')?.trim_start();
    Some(std::iter::from_fn(move || {
        if !rest.starts_with('"') {
            return None;
        }
        let name = &rest[..value_end(rest)];
        rest = rest[name.len()..].trim_start().strip_prefix(':')?.trim_start();
        let value = &rest[..value_end(rest)];
        rest = after_value(&rest[value.len()..]);
        Some((name, value))
    }))
}

/// Items of an array.
fn items(json: &str) -> Option<impl Iterator<Item = &str>> {
    let mut rest = json.strip_prefix('[')?.trim_start();
    Some(std::iter::from_fn(move || {
        if rest.is_empty() || rest.starts_with(']') {
            return None;
        }
        let value = &rest[..value_end(rest)];
        rest = after_value(&rest[value.len()..]);
        Some(value)
    }))
}

fn after_value(rest: &str) -> &str {
    let rest = rest.trim_start();
    rest.strip_prefix(',').map_or(rest, str::trim_start)
}

/// Where the value that a text begins with ends.
fn value_end(json: &str) -> usize {
    let bytes = json.as_bytes();
    let mut depth = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if depth == 0 {
                    return (at + 1).min(bytes.len());
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b':' if depth == 0 => return at,
            byte if depth == 0 && byte.is_ascii_whitespace() => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

pub(super) fn is_valid(json: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(json).is_ok()
}
