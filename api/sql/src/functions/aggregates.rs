//! Aggregate functions as the planner needs them: names, arguments and Flink's result types. Operators of hurtig
//! compute them, by name.

use super::kinds::{Kind, coerce, refuse};
use crate::types::map_type;
use arrow::datatypes::{DataType, Field};
use datafusion_common::{Result, ScalarValue, not_impl_err, plan_err};
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::utils::AggregateOrderSensitivity;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// An aggregate function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Aggregate {
    name: &'static str,
    kinds: &'static [Kind],
    /// How many of the last arguments may be left out.
    optional: usize,
    /// Whether the last argument may come again and again.
    is_repeated: bool,
    result: Of,
    /// Whether the result over no rows is 0 and not NULL.
    is_zero_of_nothing: bool,
    /// Whether rows in another order may give another result.
    is_ordered: bool,
    signature: Signature,
}

/// What type a result has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    Fixed(Fixed),
    /// That of the argument.
    Argument,
    /// That of the argument; a DECIMAL has all digits before the point that there are.
    Sum,
    /// That of the argument; a DECIMAL has all digits, at least six of them behind the point.
    Average,
    Multiset,
    Array,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fixed {
    Long,
    Double,
    Text,
    Bool,
}

pub(super) fn all() -> Vec<(&'static str, Arc<AggregateUDF>)> {
    use Fixed::{Bool, Double, Long, Text};
    let number: &[Kind] = &[Kind::Number];
    let any: &[Kind] = &[Kind::Any];
    let text: &[Kind] = &[Kind::Text, Kind::Text];
    let mut all = vec![
        Aggregate {
            optional: 1,
            is_repeated: true,
            is_zero_of_nothing: true,
            ..of("count", any, Of::Fixed(Long))
        },
        Aggregate { is_zero_of_nothing: true, ..of("approx_count_distinct", any, Of::Fixed(Long)) },
        of("sum", number, Of::Sum),
        Aggregate { is_zero_of_nothing: true, ..of("sum0", number, Of::Sum) },
        of("avg", number, Of::Average),
        of("min", any, Of::Argument),
        of("max", any, Of::Argument),
        Aggregate { is_ordered: true, ..of("first_value", any, Of::Argument) },
        Aggregate { is_ordered: true, ..of("last_value", any, Of::Argument) },
        Aggregate { optional: 1, is_ordered: true, ..of("listagg", text, Of::Fixed(Text)) },
        Aggregate { optional: 1, is_ordered: true, ..of("string_agg", text, Of::Fixed(Text)) },
        of("collect", any, Of::Multiset),
        Aggregate { is_ordered: true, ..of("array_agg", any, Of::Array) },
        Aggregate { is_ordered: true, ..of("json_arrayagg", any, Of::Fixed(Text)) },
    ];
    for name in ["stddev", "stddev_pop", "stddev_samp", "var_pop", "var_samp", "variance"] {
        all.push(of(name, &[Kind::Double], Of::Fixed(Double)));
    }
    for name in ["bool_and", "bool_or", "every", "some"] {
        all.push(of(name, &[Kind::Bool], Of::Fixed(Bool)));
    }
    all.into_iter().map(|aggregate| (aggregate.name, Arc::new(AggregateUDF::from(aggregate)))).collect()
}

fn of(name: &'static str, kinds: &'static [Kind], result: Of) -> Aggregate {
    let signature = Signature::user_defined(Volatility::Immutable);
    Aggregate {
        name,
        kinds,
        optional: 0,
        is_repeated: false,
        result,
        is_zero_of_nothing: false,
        is_ordered: false,
        signature,
    }
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        coerce(self.kinds, self.optional, self.is_repeated, given)
            .map_or_else(|| refuse(self.name, self.kinds, self.optional, self.is_repeated, given), Ok)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let argument = || match arguments.first() {
            Some(argument) => Ok(argument.clone()),
            None => plan_err!("{} takes an argument", self.name.to_uppercase()),
        };
        Ok(match self.result {
            Of::Fixed(Fixed::Long) => DataType::Int64,
            Of::Fixed(Fixed::Double) => DataType::Float64,
            Of::Fixed(Fixed::Text) => DataType::Utf8,
            Of::Fixed(Fixed::Bool) => DataType::Boolean,
            Of::Argument => argument()?,
            Of::Sum => match argument()? {
                DataType::Decimal128(_, scale) => DataType::Decimal128(38, scale),
                other => other,
            },
            Of::Average => match argument()? {
                DataType::Decimal128(_, scale) => DataType::Decimal128(38, scale.max(6)),
                other => other,
            },
            Of::Multiset => map_type(argument()?, DataType::Int32),
            Of::Array => DataType::List(Arc::new(Field::new_list_field(argument()?, true))),
        })
    }

    fn is_nullable(&self) -> bool {
        !self.is_zero_of_nothing
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        if self.is_zero_of_nothing {
            ScalarValue::new_zero(data_type)
        } else {
            ScalarValue::try_from(data_type)
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        if self.is_ordered {
            AggregateOrderSensitivity::SoftRequirement
        } else {
            AggregateOrderSensitivity::Insensitive
        }
    }

    fn supports_null_handling_clause(&self) -> bool {
        matches!(self.name, "first_value" | "last_value")
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{} is computed by hurtig's operators", self.name.to_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::name_of;
    use datafusion_expr::type_coercion::functions::fields_with_udf;

    #[track_caller]
    fn check(name: &str, argument: DataType, expected: &str) {
        let (_, function) = all().into_iter().find(|(known, _)| *known == name).unwrap();
        let fields = vec![Arc::new(Field::new("a", argument, true))];
        let fields = fields_with_udf(&fields, function.as_ref()).unwrap();
        let types: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(name_of(&function.return_type(&types).unwrap()), expected, "{name}");
    }

    #[test]
    fn results_have_flinks_types() {
        use DataType::*;
        for (name, argument, expected) in [
            ("count", Utf8, "BIGINT"),
            ("sum", Int32, "INT"),
            ("sum", Int64, "BIGINT"),
            ("sum", Float32, "FLOAT"),
            ("sum", Decimal128(10, 2), "DECIMAL(38, 2)"),
            ("avg", Int32, "INT"),
            ("avg", Int64, "BIGINT"),
            ("avg", Float64, "DOUBLE"),
            ("avg", Decimal128(10, 2), "DECIMAL(38, 6)"),
            ("avg", Decimal128(10, 8), "DECIMAL(38, 8)"),
            ("min", Utf8, "STRING"),
            ("max", crate::types::TIMESTAMP_3, "TIMESTAMP(3)"),
            ("collect", Utf8, "MAP<STRING, INT>"),
            ("array_agg", Int64, "ARRAY<BIGINT>"),
            ("stddev_pop", Int32, "DOUBLE"),
            ("listagg", Utf8, "STRING"),
            ("every", Boolean, "BOOLEAN"),
        ] {
            check(name, argument, expected);
        }
    }

    #[test]
    fn arguments_are_checked() {
        let refused = |name: &str, types: &[DataType]| {
            let (_, function) = all().into_iter().find(|(known, _)| *known == name).unwrap();
            function.coerce_types(types).unwrap_err().strip_backtrace()
        };
        assert!(refused("sum", &[DataType::Boolean]).contains("SUM takes (number), not (BOOLEAN)"));
        assert!(refused("min", &[]).contains("MIN takes (any), not ()"));
        assert!(refused("every", &[DataType::Int32]).contains("EVERY takes (BOOLEAN), not (INT)"));
    }
}
