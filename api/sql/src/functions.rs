//! Functions of Flink's SQL, with Flink's names, types and edges. Scalar functions work on whole columns; of aggregate
//! and window functions only signatures and types are here, since hurtig's own operators compute them. What DataFusion
//! does as Flink does is DataFusion's.

mod aggregates;
mod calendar;
mod casts;
mod choice;
mod clock;
mod codes;
mod collections;
mod columns;
mod definition;
#[cfg(test)]
mod expressions;
mod format;
mod join;
mod json;
mod json_path;
mod kinds;
mod numbers;
mod parts;
mod pattern;
mod planner;
mod regex;
mod round;
#[cfg(test)]
mod testing;
mod text;
mod unit;
mod windows;

pub(crate) use casts::TextCasts;
pub(crate) use clock::at_time;
pub(crate) use planner::planners;

use datafusion_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use std::sync::Arc;

/// Scalar functions, by the names they are called by, lower case. They take precedence over DataFusion's.
pub(crate) fn scalar() -> Vec<(&'static str, Arc<ScalarUDF>)> {
    let all = [
        casts::all(),
        choice::all(),
        clock::all(),
        codes::all(),
        collections::all(),
        format::all(),
        join::all(),
        json::all(),
        numbers::all(),
        parts::all(),
        regex::all(),
        round::all(),
        text::all(),
    ];
    all.into_iter().flatten().map(definition::Function::build).chain(collections::nested()).collect()
}

/// Aggregate functions: signatures and result types only, since hurtig's own operators compute them.
pub(crate) fn aggregate() -> Vec<(&'static str, Arc<AggregateUDF>)> {
    aggregates::all()
}

/// Functions of a row's place in a window: signatures and result types only.
pub(crate) fn window() -> Vec<(&'static str, Arc<WindowUDF>)> {
    windows::all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_lower_case_and_taken_once() {
        let names: Vec<&str> = scalar().into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().all(|name| *name == name.to_lowercase()));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }
}
