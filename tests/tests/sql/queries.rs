//! What queries mean, a table of statements and results.

use crate::lines_of;
use hurtig_tests::jobs;

const TABLES: &str = "
    CREATE VIEW sales AS SELECT * FROM (VALUES
        ('tea', 3, 'north'), ('milk', 1, 'south'), ('tea', 2, 'south'), ('salt', CAST(NULL AS INT), 'north')
    ) AS t (product, price, region);
    CREATE VIEW stock AS SELECT * FROM (VALUES ('tea', 10), ('salt', 0), ('rice', 7)) AS t (product, pieces);
";

fn check(query: &str, expected: &[&str]) {
    for mode in ["streaming", "batch"] {
        for parallelism in [1, 2] {
            let sql = format!("SET 'execution.runtime-mode' = '{mode}'; {TABLES} {query}");
            let found = lines_of(&sql, &jobs::config(parallelism, None));
            assert_eq!(found, expected, "{mode} at parallelism {parallelism}: {query}");
        }
    }
}

#[test]
fn rows_are_filtered_and_computed() {
    check("SELECT product, price * 2 FROM sales WHERE price > 1", &["tea,4", "tea,6"]);
    check("SELECT UPPER(product) FROM sales WHERE price IS NULL", &["SALT"]);
    check("SELECT 7 / 2, 7 % 2, 1.5 + 1", &["3,1,2.5"]);
}

#[test]
fn rows_are_grouped() {
    check(
        "SELECT product, COUNT(*), COUNT(price), SUM(price), MIN(price), MAX(price), AVG(price) FROM sales GROUP BY product",
        &["milk,1,1,1,1,1,1", "salt,1,0,,,,", "tea,2,2,5,2,3,2"],
    );
    check("SELECT COUNT(DISTINCT product), SUM(price) FILTER (WHERE region = 'south') FROM sales", &["3,3"]);
    check("SELECT region FROM sales GROUP BY region HAVING SUM(price) > 2", &["north", "south"]);
    check("SELECT DISTINCT region FROM sales", &["north", "south"]);
    check(
        "SELECT product, region, SUM(price) FROM sales GROUP BY GROUPING SETS ((product), (region), ())",
        &[",,6", ",north,3", ",south,3", "milk,,1", "salt,,", "tea,,5"],
    );
}

#[test]
fn results_of_results_take_back_what_they_said() {
    check(
        "SELECT total, COUNT(*) FROM (SELECT region, SUM(price) AS total FROM sales GROUP BY region) GROUP BY total",
        &["3,2"],
    );
    check("SELECT MAX(total) FROM (SELECT product, SUM(price) AS total FROM sales GROUP BY product)", &["5"]);
}

#[test]
fn tables_are_joined() {
    let on = "ON s.product = t.product";
    check(
        &format!("SELECT s.product, price, pieces FROM sales s JOIN stock t {on}"),
        &["salt,,0", "tea,2,10", "tea,3,10"],
    );
    check(
        &format!("SELECT s.product, price, pieces FROM sales s LEFT JOIN stock t {on}"),
        &["milk,1,", "salt,,0", "tea,2,10", "tea,3,10"],
    );
    check(
        &format!("SELECT s.product, t.product, pieces FROM sales s RIGHT JOIN stock t {on}"),
        &[",rice,7", "salt,salt,0", "tea,tea,10", "tea,tea,10"],
    );
    check(
        &format!("SELECT s.product, t.product FROM sales s FULL JOIN stock t {on} AND pieces > 5"),
        &[",rice", ",salt", "milk,", "salt,", "tea,tea", "tea,tea"],
    );
    check("SELECT COUNT(*) FROM sales CROSS JOIN stock", &["12"]);
    check(
        "SELECT s.product, t.product FROM sales s JOIN stock t ON s.price > t.pieces",
        &["milk,salt", "tea,salt", "tea,salt"],
    );
}

#[test]
fn subqueries_become_joins() {
    check(
        "SELECT DISTINCT product FROM sales WHERE product IN (SELECT product FROM stock)",
        &["salt", "tea"],
    );
    check(
        "SELECT product FROM stock t WHERE NOT EXISTS (SELECT 1 FROM sales s WHERE s.product = t.product)",
        &["rice"],
    );
    check("SELECT product FROM sales WHERE price = (SELECT MAX(price) FROM sales)", &["tea"]);
    check(
        "SELECT product FROM stock WHERE pieces > 5 OR product IN (SELECT product FROM sales)",
        &["rice", "salt", "tea"],
    );
}

#[test]
fn sets_are_combined() {
    let (a, b) = ("SELECT product FROM sales", "SELECT product FROM stock");
    check(&format!("{a} UNION ALL {b}"), &["milk", "rice", "salt", "salt", "tea", "tea", "tea"]);
    check(&format!("{a} UNION {b}"), &["milk", "rice", "salt", "tea"]);
    check(&format!("{a} INTERSECT {b}"), &["salt", "tea"]);
    check(&format!("{b} EXCEPT {a}"), &["rice"]);
}

#[test]
fn rows_are_ranked() {
    check(
        "SELECT region, product FROM (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY region ORDER BY price DESC) AS n FROM sales
        ) WHERE n = 1",
        &["north,tea", "south,tea"],
    );
    check(
        "SELECT product, n FROM (
            SELECT *, ROW_NUMBER() OVER (ORDER BY price DESC, region) AS n FROM sales
        ) WHERE n <= 2",
        &["tea,1", "tea,2"],
    );
    check("SELECT product FROM sales ORDER BY price DESC LIMIT 1", &["tea"]);
}
