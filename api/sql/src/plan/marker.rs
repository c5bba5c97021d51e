//! Functions that stand for something in a plan until it is recognised. None is ever computed.

use arrow::datatypes::DataType;
use datafusion_common::{Result, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// A function of that name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    name: &'static str,
    /// The type of the first argument, unless it is said here.
    returns: Option<DataType>,
    signature: Signature,
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match (&self.returns, arguments.first()) {
            (Some(returns), _) => Ok(returns.clone()),
            (None, Some(first)) => Ok(first.clone()),
            (None, None) => plan_err!("{} needs arguments", self.name),
        }
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("{} cannot stand here", self.name)
    }
}

/// A marker, which no rule may compute or move.
pub(super) fn marker(name: &'static str, returns: Option<DataType>) -> Arc<ScalarUDF> {
    let signature = Signature::variadic_any(Volatility::Volatile);
    Arc::new(ScalarUDF::from(Marker { name, returns, signature }))
}

/// Those that statements may call.
pub(crate) fn markers() -> Vec<(&'static str, Arc<ScalarUDF>)> {
    let names =
        ["tumble", "hop", "session", "$window_start", "$window_end", "$window_rowtime", "$window_proctime"];
    names.map(|name| (name, marker(name, None))).into()
}
