//! One shape for all scalar functions: a name, the kinds of its arguments, its result type and a body that works on
//! whole columns. Arguments are cast to their kinds before the body sees them, and calls that do not fit are refused
//! in the words of Flink's types.

use super::columns::{Numbers, Texts, Times};
use super::kinds::{Kind, coerce, refuse};
use crate::types::TIMESTAMP_3;
use arrow::array::{ArrayRef, ArrowPrimitiveType};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, plan_datafusion_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A scalar function.
pub(super) struct Function {
    name: &'static str,
    kinds: &'static [Kind],
    /// How many of the last arguments may be left out.
    optional: usize,
    /// Whether the last argument may come again and again.
    is_repeated: bool,
    signature: Signature,
    returns: fn(&[DataType]) -> Result<DataType>,
    returns_by_value: Option<ReturnsByValue>,
    /// What the call is planned as instead.
    simplified: Option<Simplified>,
    body: fn(&Call) -> Result<ArrayRef>,
}

/// An expression in the place of a call, or the arguments as they came.
type Simplified = fn(Vec<Expr>) -> std::result::Result<Expr, Vec<Expr>>;

/// A result type that also depends on constants among the arguments.
type ReturnsByValue = fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>;

impl Function {
    /// A function whose result depends on its arguments alone.
    pub(super) fn new(
        name: &'static str,
        kinds: &'static [Kind],
        returns: fn(&[DataType]) -> Result<DataType>,
        body: fn(&Call) -> Result<ArrayRef>,
    ) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Function {
            name,
            kinds,
            optional: 0,
            is_repeated: false,
            signature,
            returns,
            returns_by_value: None,
            simplified: None,
            body,
        }
    }

    /// The last so many arguments may be left out.
    pub(super) fn optional(mut self, optional: usize) -> Self {
        self.optional = optional;
        self
    }

    /// The last argument may come again and again.
    pub(super) fn repeated(mut self) -> Self {
        self.is_repeated = true;
        self
    }

    /// The result's type also depends on constants among the arguments.
    pub(super) fn returns_by_value(mut self, returns: ReturnsByValue) -> Self {
        self.returns_by_value = Some(returns);
        self
    }

    /// The optimizer puts an expression in the place of the call.
    pub(super) fn simplified(mut self, simplified: Simplified) -> Self {
        self.simplified = Some(simplified);
        self
    }

    /// The result is another one at each call, so that it must not be computed when the statement is planned.
    pub(super) fn volatile(mut self) -> Self {
        self.signature.volatility = Volatility::Volatile;
        self
    }

    /// As DataFusion calls it.
    pub(super) fn build(self) -> (&'static str, Arc<ScalarUDF>) {
        (self.name, Arc::new(ScalarUDF::from(self)))
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Function({})", self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        debug_assert!(self.signature.type_signature == TypeSignature::UserDefined);
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        coerce(self.kinds, self.optional, self.is_repeated, given)
            .map_or_else(|| refuse(self.name, self.kinds, self.optional, self.is_repeated, given), Ok)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let returned = match self.returns_by_value {
            Some(returns) => returns(&types, args.scalar_arguments)?,
            None => self.return_type(&types)?,
        };
        Ok(Arc::new(Field::new(self.name, returned, true)))
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        (self.returns)(arguments)
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.simplified {
            Some(simplified) => match simplified(args) {
                Ok(expr) => ExprSimplifyResult::Simplified(expr),
                Err(args) => ExprSimplifyResult::Original(args),
            },
            None => ExprSimplifyResult::Original(args),
        })
    }

    /// What becomes a CASE does not compute all of its arguments.
    fn short_circuits(&self) -> bool {
        self.simplified.is_some()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_volatile = self.signature.volatility == Volatility::Volatile;
        let is_constant = !is_volatile && args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let call = Call { args: &args.args, rows, returns: args.return_field.data_type() };
        let result = (self.body)(&call)?;
        debug_assert_eq!(result.len(), rows, "{}", self.name);
        debug_assert_eq!(result.data_type(), call.returns, "{}", self.name);
        Ok(if is_constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
        } else {
            ColumnarValue::Array(result)
        })
    }
}

/// One call of a function for the rows of a batch.
pub(super) struct Call<'a> {
    args: &'a [ColumnarValue],
    /// Number of rows to return.
    pub(super) rows: usize,
    /// Type to return.
    pub(super) returns: &'a DataType,
}

impl<'a> Call<'a> {
    /// Number of arguments.
    pub(super) fn len(&self) -> usize {
        self.args.len()
    }

    /// Type of an argument.
    pub(super) fn data_type(&self, i: usize) -> Result<DataType> {
        Ok(self.arg(i)?.data_type())
    }

    fn arg(&self, i: usize) -> Result<&'a ColumnarValue> {
        self.args.get(i).ok_or_else(|| plan_datafusion_err!("argument {} is missing", i + 1))
    }

    /// An argument as it came.
    pub(super) fn value(&self, i: usize) -> Result<&'a ColumnarValue> {
        self.arg(i)
    }

    /// An argument with a value for each row.
    pub(super) fn array(&self, i: usize) -> Result<ArrayRef> {
        self.arg(i)?.to_array(self.rows)
    }

    /// An argument of kind text.
    pub(super) fn texts(&self, i: usize) -> Result<Texts<'a>> {
        Texts::of(self.arg(i)?)
    }

    /// An argument of kind text, unless it was left out.
    pub(super) fn optional_texts(&self, i: usize) -> Result<Option<Texts<'a>>> {
        if i < self.len() { self.texts(i).map(Some) } else { Ok(None) }
    }

    /// An argument that is a number of the given type.
    pub(super) fn numbers<T: ArrowPrimitiveType>(&self, i: usize) -> Result<Numbers<T>> {
        Numbers::of(self.arg(i)?)
    }

    /// An argument of kind time.
    pub(super) fn times(&self, i: usize) -> Result<Times> {
        Times::of(self.arg(i)?)
    }
}

/// Result types that do not depend on the arguments.
pub(super) mod returns {
    use super::*;

    macro_rules! fixed {
        ($($name:ident $data_type:expr;)*) => {
            $(pub(in crate::functions) fn $name(_: &[DataType]) -> Result<DataType> { Ok($data_type) })*
        };
    }

    fixed! {
        text DataType::Utf8;
        bytes DataType::Binary;
        bool DataType::Boolean;
        int DataType::Int32;
        long DataType::Int64;
        double DataType::Float64;
        date DataType::Date32;
        timestamp TIMESTAMP_3;
        timestamp_ltz crate::types::timestamp_ltz_3();
    }

    /// That of the first argument.
    pub(in crate::functions) fn first(arguments: &[DataType]) -> Result<DataType> {
        arguments.first().cloned().ok_or_else(|| plan_datafusion_err!("an argument is missing"))
    }
}
