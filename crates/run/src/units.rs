//! Values with units on the command line.

use std::time::Duration;

/// A time: `200ms`, `1.5s`, `2m`; without a unit, seconds.
pub fn time(text: &str) -> Result<Duration, String> {
    let time = moment(text)?;
    if time.is_zero() { Err("the duration must not be zero".to_owned()) } else { Ok(time) }
}

/// The same, counted from a beginning, which `0` is.
pub fn moment(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 =
        digits.parse().map_err(|_| format!("invalid duration {text:?} (expected e.g. 200ms, 1.5s, 2m)"))?;
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("unknown unit {other:?} (expected us, ms, s, m or h)")),
    };
    Duration::try_from_secs_f64(number * unit).map_err(|_| format!("{text:?} is out of range"))
}

/// A number of bytes: `812`, `4k` or `4KiB` (1024 each), `1M`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        other => return Err(format!("unknown unit {other:?} (expected k, M or G)")),
    };
    let number: u64 =
        digits.parse().map_err(|_| format!("invalid size {text:?} (expected e.g. 812 or 4k)"))?;
    number.checked_mul(unit).ok_or_else(|| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time("3"), Ok(Duration::from_secs(3)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "ms", "-1s", "3 apples", "0", "1e400"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_run_begins_at_zero() {
        assert_eq!(moment("0s"), Ok(Duration::ZERO));
        assert!(moment("-1s").is_err());
    }

    #[test]
    fn numbers_of_bytes() {
        assert_eq!(bytes("812"), Ok(812));
        assert_eq!(bytes("4k"), Ok(4096));
        assert_eq!(bytes("4KiB"), Ok(4096));
        assert_eq!(bytes("1M"), Ok(1 << 20));
        for wrong in ["", "k", "-1", "1.5k", "99999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
