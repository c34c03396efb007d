//! How much the service writes when it is asked for as much as it can.

use std::time::Duration;

use crate::{
    client::{Ask, Load},
    server::{Server, Subject},
    table::Figures,
};

const CLIENTS: usize = 64;
const SPAN: Duration = Duration::from_secs(5);

pub(crate) async fn reports(subject: &Subject<'_>) -> Figures {
    let server = subject.start(&[]);
    let tasks = server.new_tasks(CLIENTS).await;
    let figures = Figures::new(format!("durable reports, {CLIENTS} connections, one task each"));
    measure(&server, figures, "reports", |client| {
        let task = tasks[client].clone();
        move |nth| Ask::patch(&task, &format!(r#"{{"current":{nth},"total":1000000,"message":"working"}}"#))
    })
    .await
}

pub(crate) async fn submits(subject: &Subject<'_>) -> Figures {
    let server = subject.start(&[]);
    let figures = Figures::new(format!("durable submits, {CLIENTS} connections"));
    let body = r#"{"kind":"import","title":"Customers","total":1200,"unit":"rows"}"#;
    measure(&server, figures, "submits", |_| |_| Ask::post("/api/tasks", body)).await
}

async fn measure<A>(server: &Server, mut figures: Figures, what: &str, asks: impl Fn(usize) -> A) -> Figures
where
    A: Fn(usize) -> Ask + Send + Sync + 'static,
{
    let cpu = server.cpu_seconds();
    let load = Load::start(server, CLIENTS, asks).await;
    tokio::time::sleep(SPAN).await;
    let answers = load.end().await;
    let cpu = server.cpu_seconds() - cpu;
    let metrics = server.metrics().await;
    figures.row(format!("{what} per second"), answers.per_second());
    figures.row(format!("{what} per server CPU second"), answers.latencies.len() as f64 / cpu);
    figures.latencies("answer", answers.latencies);
    for (label, percent) in [("commit p50, ms, at most", 50.0), ("commit p99, ms, at most", 99.0)] {
        figures.row(label, bucket_ms(&metrics, "progressd_commit_seconds", percent));
    }
    figures
}

/// Upper bound in milliseconds of the histogram's bucket in which the given share of observations lies.
fn bucket_ms(metrics: &str, name: &str, percent: f64) -> f64 {
    let rows = metrics.lines().filter(|line| line.starts_with(&format!("{name}_bucket")));
    let rows: Vec<(f64, f64)> = rows
        .map(|row| {
            let bound = row.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
            let count = row.split("} ").nth(1).unwrap().split(' ').next().unwrap();
            (bound.parse().unwrap_or(f64::INFINITY), count.parse().unwrap())
        })
        .collect();
    let total = rows.last().map_or(0.0, |(_, count)| *count);
    rows.iter().find(|(_, count)| *count >= total * percent / 100.0).map_or(0.0, |(bound, _)| bound * 1000.0)
}
