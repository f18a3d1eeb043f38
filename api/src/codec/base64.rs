//! Base64 as Go's `encoding/base64` reads it, with the place of the first illegal byte in its errors.

/// Checks standard base64 with padding; line breaks are skipped. The error is Go's.
pub(super) fn check(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let mut digits = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\r' | b'\n' => {}
            byte if byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/' => digits += 1,
            b'=' => return padding(bytes, at, digits % 4),
            _ => return illegal(at),
        }
        at += 1;
    }
    if digits.is_multiple_of(4) { Ok(()) } else { illegal(at - digits % 4) }
}

/// The padding that begins at `at`, after `digits` digits of its group of four.
fn padding(bytes: &[u8], at: usize, digits: usize) -> Result<(), String> {
    let blank = |byte: &u8| *byte == b'\r' || *byte == b'\n';
    if digits < 2 {
        return illegal(at);
    }
    let mut end = at + 1;
    if digits == 2 {
        while bytes.get(end).is_some_and(blank) {
            end += 1;
        }
        match bytes.get(end) {
            Some(b'=') => end += 1,
            _ => return illegal(end.min(bytes.len())),
        }
    }
    while bytes.get(end).is_some_and(blank) {
        end += 1;
    }
    if end < bytes.len() { illegal(end) } else { Ok(()) }
}

fn illegal(at: usize) -> Result<(), String> {
    Err(format!("illegal base64 data at input byte {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_illegal_byte_is_named() {
        let cases = [
            ("", None),
            ("MQ==", None),
            ("TVE=", None),
            ("TVFN", None),
            ("TV\nFN", None),
            ("not base64!", Some(3)),
            ("!", Some(0)),
            ("MQ=", Some(3)),
            ("MQ", Some(0)),
            ("MQ==x", Some(4)),
            ("=", Some(0)),
        ];
        for (text, want) in cases {
            let want = want.map_or(Ok(()), |at| Err(format!("illegal base64 data at input byte {at}")));
            assert_eq!(check(text), want, "{text:?}");
        }
    }
}
