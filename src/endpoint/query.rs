//! The values in the query of an endpoint, as Patroni reads them.

/// The units of Patroni's `utils.py`, `parse_int`.
const UNITS: [(&str, u64); 5] = [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10), ("B", 1)];

/// A number of bytes with one of the units. Patroni ignores a lag that it does not understand,
/// `10mb` and `10M` among them, and would then say 200 at any lag.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.into_iter().find(|(name, _)| *name == unit || unit.is_empty() && *name == "B");
    factor
        .and_then(|(_, factor)| number.parse::<u64>().ok()?.checked_mul(factor))
        .ok_or_else(|| format!("lag={text}: write a whole number and B, kB, MB, GB or TB (case counts), such as 16MB"))
}

/// The same for people, in the greatest unit of which it is a whole number.
pub(super) fn format_bytes(bytes: u64) -> String {
    let unit = UNITS.into_iter().find(|(_, factor)| bytes >= *factor && bytes % factor == 0);
    let (name, factor) = unit.unwrap_or(("B", 1));
    format!("{}{name}", bytes / factor)
}

/// Text that stands in a query as it is: unreserved characters (RFC 3986, 2.3) and `%XX`. A plain
/// `+` would arrive as a space.
pub(super) fn is_query_text(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => {
                let hex = [bytes.next(), bytes.next()];
                hex.iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit()))
            }
            _ => byte.is_ascii_alphanumeric() || b"-._~".contains(&byte),
        };
        if !good {
            return false;
        }
    }
    true
}

/// Query text as Patroni reads it.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (hex, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        bytes.extend(u8::from_str_radix(hex, 16));
        bytes.extend(rest.bytes());
    }
    bytes
}
