//! Text from programs and firmware, made fit for logs and terminals.
#![forbid(unsafe_code)]

/// The text that the bytes are, with everything escaped that is no UTF-8 or would control a terminal. Line ends and
/// tabs stay.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\n' | '\r' | '\t' => text.push(char),
                _ if char.is_control() => text.extend(char.escape_default()),
                _ => text.push(char),
            }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_escaped_and_the_rest_stays() {
        assert_eq!(printable("21 °C\tok\r\n".as_bytes()), "21 °C\tok\r\n");
        assert_eq!(printable(b"a\xFFb\xC2"), "a\\xffb\\xc2");
        assert_eq!(printable(b"\x1b[2J\x07"), "\\u{1b}[2J\\u{7}");
    }
}
