//! Durations and sizes as people write them: `10s`, `1h 30m`, `64MiB`. For the configuration file and the command line.

use std::time::Duration;

use bytesize::ByteSize;

/// A duration with its unit, for instance `250ms`, `10s`, `1h 30m`, `30d`; a bare `0` is zero.
///
/// # Errors
/// Says in one sentence what would fit.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|_| match text.trim().parse::<f64>() {
        Ok(number) => format!("\"{text}\" has no unit; write \"{number}s\" for seconds"),
        Err(_) => format!("\"{text}\" is not a duration; write it like \"10s\", \"5m\" or \"2h\""),
    })
}

/// A number of bytes, for instance `4096`, `64KiB`, `1.5 GiB` (powers of 1,024), `64MB` (powers of 1,000).
///
/// # Errors
/// Says in one sentence what would fit.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("\"{text}\" is not a size; write it like \"4096\", \"64KiB\" or \"2GiB\"");
    let size = text.trim().parse::<ByteSize>().map_err(|_| wrong())?;
    if size.as_u64() == u64::MAX {
        Err(format!("\"{text}\" is larger than any size here may be"))
    } else {
        Ok(size.as_u64())
    }
}

/// The duration as it would be written.
#[must_use]
pub fn written_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// The size as it would be written, exactly: the largest unit that divides it.
#[must_use]
pub fn written_size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("10").unwrap_err(), "\"10\" has no unit; write \"10s\" for seconds");
        assert!(duration("-1s").unwrap_err().contains("is not a duration"));
        assert!(duration("").unwrap_err().contains("is not a duration"));
    }

    #[test]
    fn sizes_know_both_powers() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("64MB"), Ok(64_000_000));
        assert!(size("many").unwrap_err().contains("is not a size"));
        assert!(size("-1").unwrap_err().contains("is not a size"));
        assert!(size("99999999999TiB").unwrap_err().contains("larger"));
    }

    proptest! {
        #[test]
        fn written_quantities_read_back(bytes in 0..u64::MAX, nanos in 0..u64::MAX) {
            prop_assert_eq!(size(&written_size(bytes)), Ok(bytes));
            let time = Duration::from_nanos(nanos);
            prop_assert_eq!(duration(&written_duration(time)), Ok(time));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = (duration(&text), size(&text));
        }
    }
}
