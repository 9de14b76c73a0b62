//! What the sessions run: programs whose every byte is known, or carries a checksum.

use serde::{Deserialize, Serialize};

/// A session's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Program {
    /// A terminal that echoes, and a program that repeats every line.
    Interactive { lines: u32 },
    /// A line every 50 ms, every third one on standard error.
    Slow { lines: u32 },
    /// Lines as fast as they go.
    Bulk { lines: u32 },
    /// The same lines, compressed: gzip carries its own checksum.
    Binary { lines: u32 },
    /// One line: does the platform open sessions?
    Probe,
}

/// What a program prints on its two outputs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Program {
    /// Its name, for tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interactive { .. } => "interactive",
            Self::Slow { .. } => "slow",
            Self::Bulk { .. } => "bulk",
            Self::Binary { .. } => "binary",
            Self::Probe => "probe",
        }
    }

    /// The command line for a shell of busybox's, with the token in it.
    pub(crate) fn command(self, token: &str) -> String {
        match self {
            Self::Interactive { .. } => format!(": {token}; exec cat"),
            Self::Slow { lines } => format!(
                "i=0; while [ $i -lt {lines} ]; do c=$(((i*7919+13)%65521)); \
                 if [ $((i%3)) = 2 ]; then printf '%s %08d %05d\\n' {token} $i $c >&2; \
                 else printf '%s %08d %05d\\n' {token} $i $c; fi; i=$((i+1)); usleep 50000; done"
            ),
            Self::Bulk { lines } => bulk_command(token, lines),
            Self::Binary { lines } => format!("{} | gzip -c", bulk_command(token, lines)),
            Self::Probe => format!("echo {token}"),
        }
    }

    /// Everything that it prints if nothing cuts it short; none where only its checksum is known.
    pub(crate) fn prints(self, token: &str) -> Option<Printed> {
        let mut printed = Printed::default();
        match self {
            Self::Interactive { lines } => {
                for line in 0..lines {
                    let text = typed_line(line);
                    // The terminal's echo, and the program's copy.
                    for _ in 0..2 {
                        printed.stdout.extend_from_slice(text.as_bytes());
                        printed.stdout.extend_from_slice(b"\r\n");
                    }
                }
            }
            Self::Slow { lines } => {
                for i in 0..lines {
                    let line = format!("{token} {i:08} {:05}\n", checksum(i));
                    let out = if i % 3 == 2 { &mut printed.stderr } else { &mut printed.stdout };
                    out.extend_from_slice(line.as_bytes());
                }
            }
            Self::Bulk { lines } => printed.stdout = bulk_text(token, lines).into_bytes(),
            Self::Binary { .. } => return None,
            Self::Probe => printed.stdout = format!("{token}\n").into_bytes(),
        }
        Some(printed)
    }

    /// Whether these are all the bytes of a program of which only the checksum is known.
    pub(crate) fn unpacks_to_its_text(self, token: &str, bytes: &[u8]) -> bool {
        let Self::Binary { lines } = self else { return false };
        let text = bulk_text(token, lines);
        let mut unpacked = vec![0; text.len() + 1];
        libdeflater::Decompressor::new()
            .gzip_decompress(bytes, &mut unpacked)
            .is_ok_and(|length| unpacked.get(..length) == Some(text.as_bytes()))
    }
}

/// What is typed into an interactive session as its line of this number.
pub(crate) fn typed_line(line: u32) -> String {
    format!("k{line:04}-{:05}", checksum(line))
}

fn checksum(line: u32) -> u64 {
    (u64::from(line) * 7919 + 13) % 65521
}

fn bulk_command(token: &str, lines: u32) -> String {
    format!(
        "awk 'BEGIN{{for(i=0;i<{lines};i++)printf \"%s %08d %05d GET /accounts/%05d/orders?page=%d \
         200 the quick brown fox reads its own log and finds every line of it\\n\",\
         \"{token}\",i,(i*7919+13)%65521,(i*31)%9973,i%17}}'"
    )
}

fn bulk_text(token: &str, lines: u32) -> String {
    let line = |i: u64| {
        let (checksum, account, page) = ((i * 7919 + 13) % 65521, (i * 31) % 9973, i % 17);
        format!(
            "{token} {i:08} {checksum:05} GET /accounts/{account:05}/orders?page={page} 200 the \
             quick brown fox reads its own log and finds every line of it\n"
        )
    };
    (0..u64::from(lines)).map(line).collect()
}
