//! MessagePack, which describes itself, as JSON.
//!
//! Where JSON has no word for it: bytes are `{"hex": "…"}`, maps whose keys are not all texts are lists of pairs, numbers
//! that are none are texts.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The JSON of one MessagePack value.
pub(super) fn of_message_pack(bytes: &[u8]) -> Result<Value, rmp_serde::decode::Error> {
    rmp_serde::from_slice::<Json>(bytes).map(|json| json.0)
}

struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToJson).map(Json)
    }
}

struct ToJson;

impl<'de> Visitor<'de> for ToJson {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MessagePack value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Value, E> {
        let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(serde_json::json!({ "hex": digits }))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ToJson)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ToJson)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Json(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some((Json(key), Json(value))) = entries.next_entry()? {
            all.push((key, value));
        }
        if all.iter().all(|(key, _)| key.is_string()) {
            let entry = |(key, value): (Value, Value)| Some((key.as_str()?.to_string(), value));
            return Ok(all.into_iter().filter_map(entry).collect::<Map<_, _>>().into());
        }
        Ok(all.into_iter().map(|(key, value)| Value::from(vec![key, value])).collect::<Vec<_>>().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        size: Option<i8>,
        ratio: f64,
        parts: (u64, bool),
        by_number: BTreeMap<u32, char>,
        bytes: serde_bytes::ByteBuf,
        kind: Kind,
    }

    #[derive(Serialize)]
    enum Kind {
        Sized { width: u16 },
    }

    #[test]
    fn whatever_serde_writes_is_shown() {
        let row = Row {
            name: "ä",
            size: Some(-3),
            ratio: f64::NAN,
            parts: (u64::MAX, true),
            by_number: BTreeMap::from([(7, 'x')]),
            bytes: vec![0, 255].into(),
            kind: Kind::Sized { width: 4 },
        };
        let bytes = rmp_serde::to_vec_named(&row).unwrap();
        let expected = serde_json::json!({
            "name": "ä", "size": -3, "ratio": "NaN", "parts": [u64::MAX, true], "by_number": [[7, "x"]],
            "bytes": { "hex": "00ff" }, "kind": { "Sized": { "width": 4 } },
        });
        assert_eq!(of_message_pack(&bytes).unwrap(), expected);
        assert!(of_message_pack(&bytes[..bytes.len() - 1]).is_err());
        assert!(of_message_pack(&[0xc1]).is_err());
    }
}
