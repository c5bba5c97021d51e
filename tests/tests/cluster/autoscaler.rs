//! A job whose parallelism follows its load.

use super::*;

/// Each record takes a subtask so long; so many records come a second, for which one is too slow.
const TAKES_MS: &str = "2";
const PER_SECOND: &str = "700";

struct Sleepy {
    folder: TempDir,
    job: String,
}

impl Sleepy {
    fn submit(cluster: &Cluster, mode: &str) -> Self {
        let folder = folder();
        let (out, checkpoints) = (folder.path().join("out"), folder.path().join("checkpoints"));
        let checkpoints = format!("--checkpoint-dir={}", text(&checkpoints));
        let mode = format!("-Dautoscaler.mode={mode}");
        let args = [
            "-p1",
            &checkpoints,
            "--checkpoint-interval=200ms",
            &mode,
            "-Dautoscaler.window=2s",
            "-Dautoscaler.pause=1s",
            "-Dautoscaler.max-parallelism=3",
            "-Dautoscaler.utilization-boundary=0.2",
            "--",
            "sleepy",
            text(&out),
            PER_SECOND,
            TAKES_MS,
        ];
        let job = cluster.submit(PROGRAM, &args);
        Sleepy { folder, job }
    }

    fn info(&self, cluster: &Cluster) -> Value {
        serde_json::from_str(&cluster.call(&["info", &self.job, "--json"])).expect("JSON")
    }

    /// Subtasks of the source, and of what is slow.
    fn subtasks(&self, cluster: &Cluster) -> Vec<u64> {
        let info = self.info(cluster);
        let vertices = info["vertices"].as_array().expect("vertices").iter();
        vertices.map(|vertex| vertex["parallelism"].as_u64().expect("a number")).collect()
    }

    /// What the autoscaler has found last.
    fn advice(&self, cluster: &Cluster) -> Option<Value> {
        self.info(cluster)["autoscaler"].get(0).cloned()
    }
}

fn one_slot_each() -> Cluster {
    // Sleepers of one process would keep each other waiting.
    Cluster::start(HURTIG, Options { task_managers: 3, slots: 1, ..Options::default() })
}

#[test]
fn a_vertex_that_cannot_keep_up_gets_subtasks_until_it_can_and_nothing_is_lost() {
    let cluster = one_slot_each();
    let sleepy = Sleepy::submit(&cluster, "on");
    wait_until("more subtasks", SOON, || {
        let subtasks = sleepy.subtasks(&cluster);
        assert_eq!(subtasks[0], 1, "the source keeps up");
        subtasks[1] > 1
    });
    let last = || sleepy.advice(&cluster);
    wait_until("the autoscaler to be content", SOON, || {
        last().is_some_and(|advice| advice["outcome"] == "as it should be")
    });
    assert!(cluster.call(&["info", &sleepy.job]).contains("autoscaler  as it should be"));
    cluster.wait_for(&sleepy.job, JobState::Running, SOON);
    cluster.call(&["stop", &sleepy.job, text(&sleepy.folder.path().join("savepoints"))]);
    let mut numbers: Vec<u64> = sorted_lines(&sleepy.folder.path().join("out"))
        .iter()
        .map(|line| line.parse().expect("a number"))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn an_autoscaler_that_only_advises_says_what_it_would_do() {
    let cluster = one_slot_each();
    let sleepy = Sleepy::submit(&cluster, "advise");
    let advice = until("advice", SOON, || {
        sleepy.advice(&cluster).filter(|advice| advice["outcome"] != "as it should be")
    });
    let slow = &advice["vertices"][1];
    assert_eq!((&slow["uid"], &slow["parallelism"]), (&json!("sleepy"), &json!(1)));
    assert!(slow["wanted"].as_u64().is_some_and(|wanted| wanted > 1), "{advice}");
    assert!(slow["utilization"].as_f64().is_some_and(|share| share > 1.0), "{advice}");
    says(advice["outcome"].as_str().expect("a sentence"), &["not done", "advise"]);
    says(&cluster.call(&["info", &sleepy.job]), &["autoscaler  '", "from 1 to", "records/s"]);
    assert_eq!(sleepy.subtasks(&cluster), [1, 1]);
}
