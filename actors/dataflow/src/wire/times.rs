//! Event times of a batch: the earliest, then how much later each is, in as few bytes as the latest needs.

use super::error::{DecodeError, Reason};
use crate::time::Timestamp;

/// Appends times: a byte for the width, eight for the earliest, then the differences.
pub(super) fn encode(times: &[Timestamp], out: &mut Vec<u8>) {
    let earliest = times.iter().copied().min().unwrap_or_default();
    let latest = times.iter().copied().max().unwrap_or_default();
    let span = latest.wrapping_sub(earliest) as u64;
    let later = times.iter().map(|time| time.wrapping_sub(earliest) as u64);
    let width = match span {
        0 => 0,
        1..0x100 => 1,
        0x100..0x1_0000 => 2,
        0x1_0000..0x1_0000_0000 => 4,
        _ => 8,
    };
    out.push(width);
    out.extend_from_slice(&earliest.to_le_bytes());
    match width {
        0 => {}
        1 => out.extend(later.map(|time| time as u8)),
        2 => append(later.map(|time| (time as u16).to_le_bytes()), out),
        4 => append(later.map(|time| (time as u32).to_le_bytes()), out),
        _ => append(later.map(u64::to_le_bytes), out),
    }
}

fn append<const N: usize>(values: impl ExactSizeIterator<Item = [u8; N]>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + values.len() * N, 0);
    for (place, value) in out[start..].as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *place = value;
    }
}

/// Reads `rows` times off the front of `rest`, which is the end of `frame`.
pub(super) fn decode(rows: usize, rest: &mut &[u8], frame: &[u8]) -> Result<Vec<Timestamp>, DecodeError> {
    let offset = frame.len() - rest.len();
    let refuse = |reason| DecodeError::at(reason, offset);
    let (&[width], after) = rest.split_first_chunk().ok_or_else(|| refuse(Reason::Truncated))?;
    let (earliest, after) = after.split_first_chunk().ok_or_else(|| refuse(Reason::Truncated))?;
    let earliest = i64::from_le_bytes(*earliest);
    if !matches!(width, 0 | 1 | 2 | 4 | 8) {
        return Err(refuse(Reason::Tag { what: "width of event times", value: width.into() }));
    }
    let bytes = rows.checked_mul(usize::from(width)).ok_or_else(|| refuse(Reason::TooLong(rows)))?;
    let (values, after) = after.split_at_checked(bytes).ok_or_else(|| refuse(Reason::Truncated))?;
    let later = |value: u64| earliest.wrapping_add(value as i64);
    let times: Vec<Timestamp> = match width {
        0 => vec![earliest; rows],
        1 => values.iter().map(|value| later(u64::from(*value))).collect(),
        2 => chunks(values).map(|value| later(u16::from_le_bytes(value).into())).collect(),
        4 => chunks(values).map(|value| later(u32::from_le_bytes(value).into())).collect(),
        _ => chunks(values).map(|value| later(u64::from_le_bytes(value))).collect(),
    };
    if times.iter().any(|time| *time < earliest) {
        return Err(refuse(Reason::Time));
    }
    *rest = after;
    Ok(times)
}

fn chunks<const N: usize>(values: &[u8]) -> impl Iterator<Item = [u8; N]> {
    values.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_of_any_span_come_back(base: i64, later in proptest::collection::vec(0u64.., 0..50), shift in 0u32..64) {
            let times: Vec<i64> = later.iter().map(|time| base.saturating_add_unsigned(time >> shift)).collect();
            let mut bytes = Vec::new();
            encode(&times, &mut bytes);
            bytes.push(7);
            let mut rest = &bytes[..];
            prop_assert_eq!(decode(times.len(), &mut rest, &bytes).unwrap(), times);
            prop_assert_eq!(rest, [7]);
        }

        #[test]
        fn any_bytes_are_read_or_refused(rows in 0usize..40, bytes: Vec<u8>) {
            let mut rest = &bytes[..];
            if let Ok(times) = decode(rows, &mut rest, &bytes) {
                prop_assert_eq!(times.len(), rows);
            }
        }
    }
}
