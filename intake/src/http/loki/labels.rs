//! Labels as Prometheus writes them (pure), `{job="web", path="/var/log/\"x\".log"}`, and as JSON has them.

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Labels of a stream at most: more than Loki takes.
const MOST: usize = 128;

/// The text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoLabels {
    /// It has another form.
    #[error("they are not written as {{name=\"value\"}}")]
    Form,
    /// There are too many.
    #[error("there are more than {MOST}")]
    TooMany,
}

/// Those of an object of strings: no more of it is read than a stream may have.
#[derive(Debug, Default)]
pub(super) struct Labels(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Labels;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Vec::new();
                while let Some(label) = map.next_entry()? {
                    if labels.len() == MOST {
                        let many = NoLabels::TooMany;
                        return Err(A::Error::custom(format!("the labels of a stream: {many}")));
                    }
                    labels.push(label);
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Each name with its value.
pub(super) fn parse(text: &[u8]) -> Result<Vec<(String, String)>, NoLabels> {
    let text = std::str::from_utf8(text).map_err(|_| NoLabels::Form)?.trim();
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let mut rest = inner.ok_or(NoLabels::Form)?.trim_start();
    let mut labels = Vec::new();
    while !rest.is_empty() {
        if labels.len() == MOST {
            return Err(NoLabels::TooMany);
        }
        let (name, after) = rest.split_once('=').ok_or(NoLabels::Form)?;
        let after = after.trim_start().strip_prefix('"').ok_or(NoLabels::Form)?;
        let (value, after) = quoted(after).ok_or(NoLabels::Form)?;
        labels.push((name.trim().trim_matches('"').to_owned(), value));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => after,
            None => return Err(NoLabels::Form),
        };
    }
    Ok(labels)
}

/// A value up to its closing quote, and what follows that. Escapes are Go's (strconv.Quote).
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value: Vec<u8> = Vec::new();
    let mut letters = text.chars();
    loop {
        match letters.next()? {
            '"' => return Some((String::from_utf8_lossy(&value).into_owned(), letters.as_str())),
            '\\' => match letters.next()? {
                'n' => value.push(b'\n'),
                't' => value.push(b'\t'),
                'r' => value.push(b'\r'),
                'a' => value.push(0x07),
                'b' => value.push(0x08),
                'f' => value.push(0x0c),
                'v' => value.push(0x0b),
                'x' => value.push(u8::try_from(hex(&mut letters, 2)?).ok()?),
                'u' => push(&mut value, char::from_u32(hex(&mut letters, 4)?)?),
                'U' => push(&mut value, char::from_u32(hex(&mut letters, 8)?)?),
                other @ ('"' | '\\' | '\'') => push(&mut value, other),
                _ => return None,
            },
            other => push(&mut value, other),
        }
    }
}

fn push(value: &mut Vec<u8>, letter: char) {
    value.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

fn hex(letters: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    (0..digits)
        .try_fold(0_u32, |number, _| Some(number.checked_mul(16)? + letters.next()?.to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is(text: &str, wanted: &[(&str, &str)]) {
        let labels = parse(text.as_bytes()).unwrap();
        assert!(labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(wanted.iter().copied()));
    }

    #[test]
    fn what_promtail_writes_is_read() {
        is("{}", &[]);
        is(r#"{job="web"}"#, &[("job", "web")]);
        is(
            r#"{filename="C:\\log \"a\", b.txt", job="\u20ac\n\xe2\x82\xac", x="{a=b}"}"#,
            &[("filename", r#"C:\log "a", b.txt"#), ("job", "€\n€"), ("x", "{a=b}")],
        );
        for text in ["", "job", "{job}", "{job=web}", r#"{job="web}"#, r#"{a="b" c="d"}"#] {
            assert_eq!(parse(text.as_bytes()), Err(NoLabels::Form), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_text_it_is_read_or_refused(text in "[{}\"\\\\a=,x0u ]{0,40}") {
            drop(parse(text.as_bytes()));
            drop(parse(format!("{{{text}}}").as_bytes()));
        }
    }
}
