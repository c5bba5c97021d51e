//! Functions of a row's place in its window, as the planner needs them. Operators of hurtig compute them, by name.

use super::kinds::{Kind, coerce, refuse};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, not_impl_err};
use datafusion_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use std::sync::Arc;

/// A window function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Window {
    name: &'static str,
    kinds: &'static [Kind],
    /// How many of the last arguments may be left out.
    optional: usize,
    /// Type of the result. None: that of the first argument, which may be NULL.
    result: Option<DataType>,
    signature: Signature,
}

pub(super) fn all() -> Vec<(&'static str, Arc<WindowUDF>)> {
    use DataType::{Float64, Int32, Int64};
    use Kind::{Any, Int, Same};
    let of = |name, kinds: &'static [Kind], optional, result| {
        let signature = Signature::user_defined(Volatility::Immutable);
        (name, Arc::new(WindowUDF::from(Window { name, kinds, optional, result, signature })))
    };
    vec![
        of("row_number", &[], 0, Some(Int64)),
        of("rank", &[], 0, Some(Int64)),
        of("dense_rank", &[], 0, Some(Int64)),
        of("ntile", &[Int], 0, Some(Int32)),
        of("cume_dist", &[], 0, Some(Float64)),
        of("percent_rank", &[], 0, Some(Float64)),
        of("lag", &[Same, Int, Same], 2, None),
        of("lead", &[Same, Int, Same], 2, None),
        of("first_value", &[Any], 0, None),
        of("last_value", &[Any], 0, None),
        of("nth_value", &[Any, Int], 0, None),
    ]
}

impl WindowUDFImpl for Window {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        coerce(self.kinds, self.optional, false, given)
            .map_or_else(|| refuse(self.name, self.kinds, self.optional, false, given), Ok)
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let (data_type, is_nullable) = match &self.result {
            Some(data_type) => (data_type.clone(), false),
            None => (args.input_fields().first().map_or(DataType::Null, |f| f.data_type().clone()), true),
        };
        Ok(Arc::new(Field::new(args.name(), data_type, is_nullable)))
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        not_impl_err!("{} is computed by hurtig's operators", self.name.to_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::name_of;

    #[track_caller]
    fn check(name: &str, arguments: &[DataType], expected: &str) {
        let (_, function) = all().into_iter().find(|(known, _)| *known == name).unwrap();
        let types = function.coerce_types(arguments).unwrap();
        let fields: Vec<FieldRef> = types.into_iter().map(|t| Arc::new(Field::new("a", t, true))).collect();
        let field = function.field(WindowUDFFieldArgs::new(&fields, "w")).unwrap();
        assert_eq!(name_of(field.data_type()), expected, "{name}");
    }

    #[test]
    fn results_have_flinks_types() {
        check("row_number", &[], "BIGINT");
        check("rank", &[], "BIGINT");
        check("ntile", &[DataType::Int64], "INT");
        check("percent_rank", &[], "DOUBLE");
        check("lag", &[DataType::Utf8], "STRING");
        check("lead", &[DataType::Int64, DataType::Int64, DataType::Int32], "BIGINT");
        check("last_value", &[DataType::Date32], "DATE");
    }
}
