//! State whose type has become another one: functions that make new values of old ones when a checkpoint is restored.

use super::StateValue;
use super::codec::{decode_rows, encode_error};
use crate::error::{BoxError, Error};
use crate::snapshot::{RowLayout, RowOp, StateSnapshot};
use rmpv::Value;
use std::sync::Arc;

/// Makes a value of its last version of bytes of an earlier one.
type Reader<V> = Arc<dyn Fn(&[u8]) -> Result<V, BoxError> + Send + Sync>;

/// The versions that the type of a state has had, and how each becomes the next. The version is written into
/// checkpoints; a state without migrations has the first.
///
/// Serde's own means are enough for fields that are added with a default, removed or renamed; see
/// [its attributes](https://serde.rs/field-attrs.html).
///
/// ```
/// use hurtig_dataflow::state::Migration;
/// // A number of seconds was counted at first, then milliseconds, then their sum as well.
/// let migration = Migration::<u32>::new().then(|s| u64::from(s) * 1_000).then(|ms| (ms, ms));
/// assert_eq!(migration.version(), 2);
/// ```
pub struct Migration<V> {
    /// By version; the last reads what is written now.
    readers: Vec<Reader<V>>,
}

impl<V: StateValue> Migration<V> {
    /// The first version of a type.
    #[expect(clippy::new_without_default, reason = "it would say nothing about the type")]
    pub fn new() -> Self {
        Migration { readers: vec![read::<V>()] }
    }

    /// Another version, made of the last one.
    #[must_use]
    pub fn then<N: StateValue>(self, next: impl Fn(V) -> N + Send + Sync + 'static) -> Migration<N> {
        let next = Arc::new(next);
        let through = |reader: Reader<V>| -> Reader<N> {
            let next = Arc::clone(&next);
            Arc::new(move |bytes| Ok(next(reader(bytes)?)))
        };
        let mut readers: Vec<Reader<N>> = self.readers.into_iter().map(through).collect();
        readers.push(read::<N>());
        Migration { readers }
    }

    /// The version that is written now, counted from 0.
    pub fn version(&self) -> u32 {
        self.readers.len() as u32 - 1
    }

    pub(super) fn erase(self) -> ErasedMigration {
        let version = self.version();
        let convert = move |version: u32, bytes: &[u8]| {
            let reader = &self.readers[version as usize];
            Ok(rmp_serde::to_vec_named(&reader(bytes)?)?)
        };
        ErasedMigration { version, convert: Box::new(convert) }
    }
}

fn read<V: StateValue>() -> Reader<V> {
    Arc::new(|bytes| Ok(rmp_serde::from_slice(bytes)?))
}

/// Makes bytes of the present version of those of an earlier one.
type Convert = Box<dyn Fn(u32, &[u8]) -> Result<Vec<u8>, BoxError> + Send + Sync>;

/// A migration of values whose type is not known.
pub(super) struct ErasedMigration {
    pub(super) version: u32,
    convert: Convert,
}

/// What a state holds for a key, as far as values are within it that can be of another version.
pub(super) trait Content {
    /// Replaces each of those values.
    fn replace(
        content: &mut Value,
        each: &mut dyn FnMut(&mut Value) -> Result<(), BoxError>,
    ) -> Result<(), BoxError>;
}

impl ErasedMigration {
    /// Makes all rows of a snapshot ones of the present version.
    pub(super) fn apply<C: Content>(&self, snapshot: &mut StateSnapshot) -> Result<(), Error> {
        let (name, from) = (snapshot.name.clone(), snapshot.version);
        if from > self.version {
            return Err(Error::StateVersion { state: name, found: from, declared: self.version });
        }
        if from == self.version {
            return Ok(());
        }
        let failed = |source: BoxError| Error::Migrate { state: name.clone(), version: from, source };
        for rows in snapshot.groups.iter_mut().filter(|rows| rows.op == RowOp::Put) {
            let mut values: Vec<Value> = Vec::new();
            decode_rows(&name, rows.rows, &rows.bytes, |row| values.push(row))?;
            rows.bytes.clear();
            for mut row in values {
                let content = match (&mut row, snapshot.layout) {
                    (Value::Array(parts), RowLayout::Table) if parts.len() == 2 => &mut parts[1],
                    _ => return Err(failed("it is not a table of values by key".into())),
                };
                C::replace(content, &mut |value| self.convert(from, value)).map_err(failed)?;
                rmpv::encode::write_value(&mut rows.bytes, &row)
                    .map_err(|source| encode_error(&name, source.into()))?;
            }
        }
        snapshot.version = self.version;
        Ok(())
    }

    fn convert(&self, from: u32, value: &mut Value) -> Result<(), BoxError> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value)?;
        let converted = (self.convert)(from, &bytes)?;
        *value = rmpv::decode::read_value(&mut &converted[..])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KeyScope, ListState, MapState, Scope, StateStore, ValueState};
    use super::*;
    use crate::key::{KeyGroupRange, hash_key};
    use serde::{Deserialize, Serialize};

    struct OfKey<'a> {
        states: &'a mut StateStore,
        key: u64,
    }

    impl KeyScope for OfKey<'_> {
        type Key = u64;
        fn scope(&mut self) -> Scope<'_, u64> {
            Scope::new(self.states, &self.key, hash_key(&self.key), 7)
        }
    }

    fn store(restored: Vec<StateSnapshot>) -> StateStore {
        StateStore::new(KeyGroupRange::all(128), restored)
    }

    fn written() -> Vec<StateSnapshot> {
        let mut states = store(Vec::new());
        let value = ValueState::<u32>::declare::<u64>(&mut states, "value", None).unwrap();
        let list = ListState::<u32>::declare::<u64>(&mut states, "list", None).unwrap();
        let map = MapState::<String, u32>::declare::<u64>(&mut states, "map", None).unwrap();
        for key in 0..300 {
            let ctx = &mut OfKey { states: &mut states, key };
            value.set(ctx, key as u32);
            list.set(ctx, [key as u32, 5]);
            map.insert(ctx, "a".into(), key as u32);
        }
        states.snapshot().unwrap()
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Now {
        Counted { n: u64, times: u8 },
        Nothing,
    }

    fn migration() -> Migration<Now> {
        let seconds = Migration::<u32>::new().then(|s| u64::from(s) * 1_000);
        seconds.then(|n| if n == 0 { Now::Nothing } else { Now::Counted { n, times: 1 } })
    }

    fn now(key: u64) -> Now {
        if key == 0 { Now::Nothing } else { Now::Counted { n: key * 1_000, times: 1 } }
    }

    #[test]
    fn values_lists_and_maps_of_former_versions_become_those_of_the_present_and_are_read_as_such_after() {
        let mut restored = written();
        // The second time nothing is left to be migrated.
        for is_new in [true, false] {
            let mut states = store(restored);
            for name in ["value", "list", "map"] {
                states.migrate(name, migration());
            }
            let value = ValueState::<Now>::declare::<u64>(&mut states, "value", None).unwrap();
            let list = ListState::<Now>::declare::<u64>(&mut states, "list", None).unwrap();
            let map = MapState::<String, Now>::declare::<u64>(&mut states, "map", None).unwrap();
            assert_eq!(states.has_migrated(), is_new);
            for key in 0..300 {
                let ctx = &mut OfKey { states: &mut states, key };
                assert_eq!(value.get(ctx), Some(&now(key)));
                assert_eq!(list.iter(ctx).collect::<Vec<_>>(), [&now(key), &now(5)]);
                assert_eq!(map.get(ctx, &"a".to_string()), Some(&now(key)));
            }
            restored = states.snapshot().unwrap();
            assert!(restored.iter().all(|snapshot| snapshot.version == 2));
        }
    }

    #[test]
    fn what_cannot_be_migrated_is_named() {
        let refused = |restored: Vec<StateSnapshot>, migration: Option<Migration<Now>>| {
            let mut states = store(restored);
            migration.into_iter().for_each(|migration| states.migrate("value", migration));
            match ValueState::<Now>::declare::<u64>(&mut states, "value", None) {
                Err(error) => crate::error::describe(&error),
                Ok(_) => panic!("it was restored"),
            }
        };
        let mut newer = written();
        newer[0].version = 3;
        assert!(refused(newer.clone(), Some(migration())).contains("'value' has version 3"));
        assert!(refused(newer, None).contains("versions up to 0"));
        let other = Migration::<String>::new().then(|_| Now::Nothing);
        assert!(refused(written(), Some(other)).contains("'value' cannot be migrated from version 0"));
        assert!(refused(written(), None).contains("'value' of the checkpoint cannot be read"));
    }
}
