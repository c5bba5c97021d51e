//! Expressions of the Table API.

use crate::error::SqlError;
use crate::functions;
use crate::tables::TableEnvironment;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, ScalarValue};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::{BinaryExpr, Expr, LogicalPlan, Operator, SortExpr};
use std::ops::{Add, Div, Mul, Not, Rem, Sub};

/// Something computed of a row's columns.
#[derive(Clone, Debug)]
pub struct Expression {
    expr: Expr,
    descending: bool,
}

/// A column by its name.
pub fn col(name: &str) -> Expression {
    Expr::Column(Column::new_unqualified(name)).into()
}

/// A value.
pub fn lit(value: impl Into<Expression>) -> Expression {
    value.into()
}

impl From<Expr> for Expression {
    fn from(expr: Expr) -> Self {
        Expression { expr, descending: false }
    }
}

macro_rules! literals {
    ($($rust:ty => $scalar:expr),* $(,)?) => {$(
        impl From<$rust> for Expression {
            fn from(value: $rust) -> Self {
                let scalar: fn($rust) -> ScalarValue = $scalar;
                Expr::Literal(scalar(value), None).into()
            }
        }
    )*};
}

literals!(
    bool => |value| ScalarValue::Boolean(Some(value)),
    i32 => |value| ScalarValue::Int32(Some(value)),
    i64 => |value| ScalarValue::Int64(Some(value)),
    f64 => |value| ScalarValue::Float64(Some(value)),
    &str => |value| ScalarValue::Utf8(Some(value.to_string())),
    String => |value| ScalarValue::Utf8(Some(value)),
);

macro_rules! comparisons {
    ($($(#[doc = $doc:literal])* $name:ident => $operator:ident),* $(,)?) => {$(
        $(#[doc = $doc])*
        pub fn $name(self, other: impl Into<Expression>) -> Expression {
            self.binary(Operator::$operator, other.into())
        }
    )*};
}

macro_rules! aggregates {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {$(
        $(#[doc = $doc])*
        pub fn $name(self) -> Expression {
            self.aggregate(stringify!($name))
        }
    )*};
}

impl Expression {
    fn binary(self, operator: Operator, other: Expression) -> Expression {
        Expr::BinaryExpr(BinaryExpr::new(Box::new(self.expr), operator, Box::new(other.expr))).into()
    }

    comparisons!(
        /// Whether it equals another.
        eq => Eq,
        /// Whether it differs from another.
        not_eq => NotEq,
        /// Whether it is greater than another.
        gt => Gt,
        /// Whether it is greater than another or equal.
        gt_eq => GtEq,
        /// Whether it is less than another.
        lt => Lt,
        /// Whether it is less than another or equal.
        lt_eq => LtEq,
        /// Whether both are true.
        and => And,
        /// Whether one of both is true.
        or => Or,
    );

    aggregates!(
        /// The number of rows in which it is not null.
        count,
        /// The sum over the rows.
        sum,
        /// The mean over the rows.
        avg,
        /// The smallest over the rows.
        min,
        /// The largest over the rows.
        max,
        /// The first row's.
        first_value,
        /// The last row's.
        last_value,
    );

    fn aggregate(self, name: &str) -> Expression {
        let function = functions::aggregate().into_iter().find(|(known, _)| *known == name);
        let Some((_, function)) = function else { unreachable!("{name} is among the functions") };
        Expr::AggregateFunction(AggregateFunction::new_udf(
            function,
            vec![self.expr],
            false,
            None,
            Vec::new(),
            None,
        ))
        .into()
    }

    /// Counts each value once, and likewise for other aggregate functions.
    pub fn distinct(mut self) -> Expression {
        if let Expr::AggregateFunction(function) = &mut self.expr {
            function.params.distinct = true;
        }
        self
    }

    /// Gives it a name.
    pub fn alias(self, name: &str) -> Expression {
        self.expr.alias(name).into()
    }

    /// Whether it is null.
    pub fn is_null(self) -> Expression {
        Expr::IsNull(Box::new(self.expr)).into()
    }

    /// Whether it is not null.
    pub fn is_not_null(self) -> Expression {
        Expr::IsNotNull(Box::new(self.expr)).into()
    }

    /// In ascending order, for [`Table::order_by`](crate::Table::order_by).
    pub fn asc(mut self) -> Expression {
        self.descending = false;
        self
    }

    /// In descending order, for [`Table::order_by`](crate::Table::order_by).
    pub fn desc(mut self) -> Expression {
        self.descending = true;
        self
    }

    /// The expression with its columns found in a plan.
    pub(crate) fn resolved(self, plan: &LogicalPlan) -> Result<Expr, SqlError> {
        let mut unknown = None;
        let resolved = self.expr.transform(|expr| match &expr {
            Expr::Column(column) if column.relation.is_none() => {
                match TableEnvironment::column(plan, &column.name) {
                    Some(found) => Ok(Transformed::yes(found)),
                    None => {
                        unknown = Some(column.name.clone());
                        Ok(Transformed::no(expr))
                    }
                }
            }
            _ => Ok(Transformed::no(expr)),
        })?;
        match unknown {
            None => Ok(resolved.data),
            Some(name) => {
                let names = plan.schema().fields().iter().map(|field| field.name().clone());
                let names: Vec<String> = names.collect();
                let error = SqlError::statement(format!("there is no column '{name}'"));
                Err(error.with_hint(format!("there are {}", names.join(", "))))
            }
        }
    }

    pub(crate) fn sort_key(self, plan: &LogicalPlan) -> Result<SortExpr, SqlError> {
        let descending = self.descending;
        // Nulls are the smallest values.
        Ok(SortExpr::new(self.resolved(plan)?, !descending, !descending))
    }

    pub(crate) fn is_aggregate(expr: &Expr) -> bool {
        expr.exists(|expr| Ok(matches!(expr, Expr::AggregateFunction(_)))).unwrap_or(false)
    }

    /// The aggregate functions within expressions, each once.
    pub(crate) fn aggregates_of(exprs: &[Expr]) -> Vec<Expr> {
        let mut found: Vec<Expr> = Vec::new();
        for expr in exprs {
            let _ = expr.apply(|expr| {
                if matches!(expr, Expr::AggregateFunction(_)) && !found.contains(expr) {
                    found.push(expr.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            });
        }
        found
    }

    /// An expression over the output of an aggregate: what that has computed already are columns.
    pub(crate) fn over(expr: Expr, known: &[Expr], plan: &LogicalPlan) -> Result<Expr, SqlError> {
        let resolved = expr.transform_down(|expr| match known.iter().position(|other| *other == expr) {
            Some(at) => {
                let column = Expr::Column(Column::from(plan.schema().qualified_field(at)));
                Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
            }
            None => Ok(Transformed::no(expr)),
        });
        Ok(resolved?.data)
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $operator:ident),* $(,)?) => {$(
        impl<E: Into<Expression>> $trait<E> for Expression {
            type Output = Expression;
            fn $method(self, other: E) -> Expression {
                self.binary(Operator::$operator, other.into())
            }
        }
    )*};
}

operators!(Add add Plus, Sub sub Minus, Mul mul Multiply, Div div Divide, Rem rem Modulo);

impl Not for Expression {
    type Output = Expression;

    fn not(self) -> Expression {
        Expr::Not(Box::new(self.expr)).into()
    }
}
