//! The flights job finds what the same questions, put to SQLite, find in the same files: every row.
//!
//! Which records are late depends on where the watermark stands, and that moves behind each batch of the source: 1024
//! rows, counted anew in each file. So the tables below know each row's batch and the watermark that met it.

use hurtig::prelude::*;
use hurtig_examples::flights::{self, OUT_OF_ORDER_MS, RUSH_FLIGHTS, RUSH_GAP};
use hurtig_tests::{folders, jobs};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Rows of each output folder, sorted.
type Outputs = BTreeMap<&'static str, Vec<String>>;

/// The input with each row's event time and batch, and the watermark that it meets and that its batch leaves.
const TABLES: &str = "
    create table numbered as
        select *, dense_rank() over (order by file, (line - 1) / 1024) as batch
        from (select *,
            (strftime('%s', printf('%04d-%02d-%02d', year, month, day))
                + (sched_dep_time / 100 * 60 + sched_dep_time % 100 + coalesce(dep_delay, 0)) * 60) * 1000 as at
            from input);
    create table marks as
        select batch, max(max(at)) over (order by batch) - {bound} - 1 as watermark from numbered group by batch;
    insert into marks select max(batch) + 1, 9223372036854775807 from marks;
    create unique index marks_by_batch on marks (batch);
    create table departures as
        select n.*, at - at % 3600000 as hour, coalesce(m.watermark, -9223372036854775808) as watermark
        from numbered n left join marks m on m.batch = n.batch - 1
        where dep_time is not null and dep_delay is not null;
    create table totals as
        select batch, carrier, count(*) as departures, sum(dep_delay) as minutes from departures
        group by batch, carrier;";

const HOURLY: &str = "
    with on_time as (
        select *,
            row_number() over (partition by origin, hour order by dep_delay) as place,
            count(*) over (partition by origin, hour) as departures
        from departures where hour + 3600000 - 1 > watermark)
    select origin, hour, count(*), cast(sum(dep_delay) as real) / count(*),
        min(case when place * 100 >= departures * 95 then dep_delay end),
        cast(sum(dep_delay > 15) as real) / count(*)
    from on_time group by origin, hour";

const LATE: &str = "
    select at, origin, dest, carrier, flight, dep_delay from departures where hour + 3600000 - 1 <= watermark";

const CANCELLED: &str = "
    select year, month, day, coalesce(dep_time, ''), sched_dep_time, coalesce(dep_delay, ''), carrier, flight,
        origin, dest
    from numbered where dep_time is null or dep_delay is null";

/// Departures of each destination in the order of the files, with the watermark they meet.
const BY_DESTINATION: &str = "select dest, at, watermark from departures order by dest, batch, line";

/// For each batch whose watermark wakes the ranking: the first hour it wakes for, and the departures until then. A
/// departure's hour is due with the first watermark behind the departure that reaches the hour's end.
const WAKES: &str = "
    with advancing as (
        select batch, watermark from marks m
        where watermark > coalesce((select watermark from marks p where p.batch = m.batch - 1), watermark - 1)),
    due as (
        select d.hour + 3600000 as due,
            (select min(batch) from advancing a where a.batch >= d.batch and a.watermark >= d.hour + 3600000) as batch
        from (select distinct hour, batch from departures) d)
    select batch, min(due), (select sum(departures) from totals t where t.batch <= due.batch)
    from due group by batch order by batch";

/// The ranking behind a batch, for an hour.
const RANKING: &str = "
    select ?2, row_number() over (order by mean desc, carrier), carrier, departures, mean from (
        select carrier, sum(departures) as departures, cast(sum(minutes) as real) / sum(departures) as mean
        from totals where batch <= ?1 group by carrier having sum(departures) >= 100)
    order by mean desc, carrier limit 5";

fn load(data: &Path) -> rusqlite::Result<Connection> {
    let mut db = Connection::open_in_memory()?;
    db.execute_batch(
        "create table input (file integer, line integer, year integer, month integer, day integer,
            dep_time integer, sched_dep_time integer, dep_delay integer,
            carrier text, flight integer, origin text, dest text)",
    )?;
    let names = "year month day dep_time sched_dep_time dep_delay carrier flight origin dest";
    let transaction = db.transaction()?;
    for (number, file) in folders::published_files(data).iter().enumerate() {
        let mut insert =
            transaction.prepare("insert into input values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
        let text = std::fs::read_to_string(file).expect("flights can be read");
        let mut lines = text.lines();
        let header: Vec<_> = lines.next().expect("a header").split(',').collect();
        let column = |name| header.iter().position(|column| *column == name).expect("a column of flights");
        let columns: Vec<_> = names.split(' ').map(column).collect();
        for (line, row) in lines.enumerate() {
            let fields: Vec<_> = row.split(',').collect();
            insert.raw_bind_parameter(1, number as i64)?;
            insert.raw_bind_parameter(2, line as i64 + 1)?;
            for (at, column) in columns.iter().enumerate() {
                let field = Some(fields[*column]).filter(|field| !matches!(*field, "" | "NA"));
                insert.raw_bind_parameter(at + 3, field)?;
            }
            insert.raw_execute()?;
        }
    }
    transaction.commit()?;
    db.execute_batch(&TABLES.replace("{bound}", &OUT_OF_ORDER_MS.to_string()))?;
    Ok(db)
}

/// Rows of a query, as the job writes them.
fn rows(db: &Connection, query: &str, arguments: impl rusqlite::Params) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare(query)?;
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        let field = |at| {
            Ok(match row.get_ref(at)? {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                rusqlite::types::ValueRef::Real(number) => format!("{number:?}"),
                value => value.as_str()?.to_string(),
            })
        };
        let fields: rusqlite::Result<Vec<_>> = (0..columns).map(field).collect();
        Ok(fields?.join(","))
    };
    statement.query_map(arguments, row)?.collect()
}

/// Sessions of departures, as they are found record by record: one that comes when its session is over is lost.
fn rushes(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let gap = RUSH_GAP.as_millis() as i64;
    let mut statement = db.prepare(BY_DESTINATION)?;
    let mut found = Vec::new();
    let mut open: Vec<(String, i64, i64, u64)> = Vec::new();
    let mut departures = statement.query([])?;
    while let Some(departure) = departures.next()? {
        let (dest, at, watermark): (String, i64, i64) =
            (departure.get(0)?, departure.get(1)?, departure.get(2)?);
        let is_over =
            |(of, _, to, _): &mut (String, i64, i64, u64)| *of != dest || *to + gap - 1 <= watermark;
        found.extend(open.extract_if(.., is_over));
        let joined: Vec<_> =
            open.extract_if(.., |(_, from, to, _)| *from <= at + gap && at <= *to + gap).collect();
        if joined.is_empty() && at + gap - 1 <= watermark {
            continue;
        }
        let from = joined.iter().map(|session| session.1).chain([at]).min().expect("one at least");
        let to = joined.iter().map(|session| session.2).chain([at]).max().expect("one at least");
        let flights = joined.iter().map(|session| session.3).sum::<u64>() + 1;
        open.push((dest, from, to, flights));
    }
    found.append(&mut open);
    found.retain(|(_, _, _, flights)| *flights >= RUSH_FLIGHTS);
    Ok(found.iter().map(|(dest, from, to, flights)| format!("{dest},{from},{to},{flights}")).collect())
}

/// A ranking for each hour that event time has passed with new departures.
fn worst(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare(WAKES)?;
    let wakes = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut ranked_departures = 0;
    let mut ranking = Vec::new();
    for wake in wakes {
        let (batch, due, departures): (i64, i64, i64) = wake?;
        if departures > ranked_departures {
            ranking.extend(rows(db, RANKING, [batch, due])?);
            ranked_departures = departures;
        }
    }
    Ok(ranking)
}

fn by_sqlite() -> rusqlite::Result<Outputs> {
    let db = load(&folders::flights_data())?;
    let mut outputs = Outputs::from([
        ("hourly", rows(&db, HOURLY, [])?),
        ("late", rows(&db, LATE, [])?),
        ("cancelled", rows(&db, CANCELLED, [])?),
        ("rushes", rushes(&db)?),
        ("worst", worst(&db)?),
    ]);
    outputs.values_mut().for_each(|rows| rows.sort_unstable());
    Ok(outputs)
}

/// A row with its real numbers written as Rust does.
fn with_real_numbers(row: &str, columns: &[usize]) -> String {
    let field = |(at, field): (usize, &str)| match columns.contains(&at) {
        true => format!("{:?}", field.parse::<f64>().expect("a number")),
        false => field.to_string(),
    };
    row.split(',').enumerate().map(field).collect::<Vec<_>>().join(",")
}

/// The job's files hold what SQLite finds.
fn check(parallelism: usize, checkpoint_interval: Option<Duration>) {
    let out = tempfile::tempdir().expect("a folder");
    let options = flights::Options {
        data: folders::flights_data(),
        out: out.path().to_path_buf(),
        rate: 0,
        live: false,
    };
    let env = Environment::new();
    flights::job(&env, &options);
    let status = jobs::run(jobs::execute(&env, &jobs::config(parallelism, checkpoint_interval), None));
    let status = status.expect("the job finishes");
    assert_eq!(status.restarts, 0);
    assert_eq!(status.checkpoints_completed > 1, checkpoint_interval.is_some(), "{status:?}");

    let expected = by_sqlite().expect("SQLite answers");
    for (folder, rows) in &expected {
        assert!(!rows.is_empty(), "{folder}");
        let real = match *folder {
            "hourly" => &[3, 5][..],
            "worst" => &[4],
            _ => &[],
        };
        let found = folders::sorted_rows(&out.path().join(folder));
        let mut found: Vec<_> = found.iter().map(|row| with_real_numbers(row, real)).collect();
        found.sort_unstable();
        if let Err(difference) = folders::compare(rows, &found) {
            panic!("{folder}: {difference}");
        }
    }
}

#[test]
fn every_row_is_what_sqlite_finds() {
    check(1, None);
}

#[test]
fn every_row_is_what_sqlite_finds_at_parallelism_2() {
    check(2, None);
}

#[test]
fn every_row_is_what_sqlite_finds_with_checkpoints() {
    check(2, Some(Duration::from_millis(50)));
}
