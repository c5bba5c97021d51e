//! Fitting a checkpoint to a program.

use crate::samples::*;
use hurtig_dataflow::graph::OperatorId;
use hurtig_dataflow::key::{KEY_HASH_VERSION, KeyGroupRange};
use hurtig_state::{CheckpointMetadata, CheckpointStore, Error, ErrorKind, RestorePlan, SnapshotDir};

async fn taken(name: &str) -> (CheckpointStore, CheckpointMetadata) {
    let store = CheckpointStore::open(&format!("memory:{name}")).unwrap();
    let metadata = take(&store, &SnapshotDir::of_checkpoint(5), LARGE).await;
    (store, metadata)
}

fn vertices(uids: &[&[&str]]) -> Vec<Vec<OperatorId>> {
    uids.iter().map(|chain| chain.iter().map(|uid| operator(uid, 3)).collect()).collect()
}

#[tokio::test]
async fn state_is_handed_out_by_uid_at_another_parallelism_and_in_other_chains() {
    let (store, metadata) = taken("rescale").await;
    let program = vertices(&[&["source"], &["new", "count"]]);
    let plan = RestorePlan::new(&metadata, &program, MAX_PARALLELISM, false).unwrap();
    assert_eq!(plan.fresh(), [operator("new", 3)]);
    assert!(plan.dropped().is_empty());

    let heads = RestorePlan::heads(&metadata, &store).await.unwrap();
    let from = (&metadata, &store);
    let mut positions = Vec::new();
    for index in 0..3 {
        let restored = plan.read(from, &heads, &program[1], index, 3).await.unwrap();
        assert!(restored[0].is_none());
        let count = restored[1].as_ref().unwrap();
        assert_eq!((count.uid.as_str(), count.watermark), ("count", 1000));
        let groups: Vec<u16> = count.states[0].groups.iter().map(|rows| rows.first).collect();
        let range = KeyGroupRange::of_subtask(index, 3, MAX_PARALLELISM);
        assert_eq!(groups, (range.first..range.first + range.count).collect::<Vec<_>>());
        positions.extend(count.states[1].items.iter().map(|item| item[0]));
    }
    assert_eq!(positions, [0, 1]);
    // At the same parallelism everybody gets back its own.
    for index in 0..2 {
        let restored = plan.read(from, &heads, &program[1], index, 2).await.unwrap();
        let own = &snapshot(5, &["count"], index, 2, LARGE).operators[0];
        let restored = restored[1].as_ref().unwrap();
        assert_eq!((&restored.states, restored.watermark), (&own.states, own.watermark));
    }
}

#[tokio::test]
async fn what_does_not_fit_is_named_with_its_remedy() {
    let (_, metadata) = taken("misfits").await;
    let check = |metadata: &CheckpointMetadata, uids: &[&[&str]], max_parallelism: u32, words: &[&str]| {
        let error = RestorePlan::new(metadata, &vertices(uids), max_parallelism, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(words.iter().all(|words| text.contains(words)), "{text}");
    };
    let fitting: &[&[&str]] = &[&["source", "count"]];
    check(&metadata, fitting, 256, &["max parallelism of 128", "has 256", "set the max parallelism to 128"]);
    let newer = CheckpointMetadata { key_hash_version: KEY_HASH_VERSION + 1, ..metadata.clone() };
    check(&newer, fitting, MAX_PARALLELISM, &["key hash"]);
    let missing = ["'The count' (uid 'count')", "--allow-non-restored"];
    check(&metadata, &[&["source"], &["total"]], MAX_PARALLELISM, &missing);
    let other =
        ["another program", "'The source' (uid 'source')", "'The a' (uid 'a')", "--allow-non-restored"];
    check(&metadata, &[&["a"], &["b"]], MAX_PARALLELISM, &other);
    check(&metadata, &[], MAX_PARALLELISM, &["the program has no operators"]);
}

#[tokio::test]
async fn with_consent_state_is_dropped_and_said_to_be() {
    let (store, metadata) = taken("consent").await;
    let program = vertices(&[&["source"]]);
    let plan = RestorePlan::new(&metadata, &program, MAX_PARALLELISM, true).unwrap();
    assert_eq!(plan.dropped(), [operator("count", 2)]);
    let heads = RestorePlan::heads(&metadata, &store).await.unwrap();
    assert_eq!(plan.read((&metadata, &store), &heads, &program[0], 0, 3).await.unwrap().len(), 1);
    // Consent covers operators, not key groups.
    assert!(RestorePlan::new(&metadata, &program, 64, true).is_err());
}

#[tokio::test]
async fn snapshots_of_another_checkpoint_or_vertex_are_refused() {
    let (store, mut metadata) = taken("mixed").await;
    let older = take(&store, &SnapshotDir::of_checkpoint(4), SMALL).await;
    metadata.vertices[0].subtasks[1].snapshot = older.vertices[0].subtasks[1].snapshot.clone();
    let error = RestorePlan::heads(&metadata, &store).await.unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { reason, .. } if reason.contains("subtask 1 of vertex 0")),
        "{error}"
    );

    let (store, mut metadata) = taken("mixed").await;
    metadata.vertices[0].operators.swap(0, 1);
    let error = RestorePlan::heads(&metadata, &store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}
