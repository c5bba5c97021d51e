//! Asynchronous look-ups: each order is joined with its customer, whom a slow service knows. Many requests are on the
//! way at once, and results keep the order of the stream.

use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Its number.
    pub number: u64,
    /// Who ordered.
    pub customer: u64,
}

/// An order with what is known of its customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnrichedOrder {
    /// The order.
    pub order: Order,
    /// The customer's name.
    pub customer_name: String,
}

/// Builds the job on made-up orders.
///
/// # Errors
/// None.
pub fn build(env: &Environment, _: &[String]) -> Result<(), BoxError> {
    enrich(
        &orders(env, 2_000),
        AsyncOptions::ordered().with_capacity(100).with_timeout(Duration::from_secs(5)),
    )
    .print();
    Ok(())
}

/// Orders of 97 customers.
pub fn orders(env: &Environment, count: u64) -> DataStream<Order> {
    let source =
        GeneratorSource::new(|number| Order { number, customer: number * 31 % 97 }).with_count(count);
    env.generate(source, WatermarkStrategy::none()).uid("orders")
}

/// The orders with their customers' names.
pub fn enrich(orders: &DataStream<Order>, options: AsyncOptions) -> DataStream<EnrichedOrder> {
    orders
        .map_async(options, |order: Order| async move {
            let customer_name = name_of(order.customer).await;
            Ok(EnrichedOrder { order, customer_name })
        })
        .uid("enrich")
}

/// What the service answers, after a while that depends on the customer.
async fn name_of(customer: u64) -> String {
    tokio::time::sleep(Duration::from_millis(customer % 7)).await;
    format!("customer {customer}")
}
