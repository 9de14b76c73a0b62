//! What clients received, against the stream and against what their programs print.

use std::fs;

use anyhow::{Context as _, Result};
use model::OutputStream;

use super::Verdict;
use super::stream::{Recorded, Session, by_token};
use crate::evidence::{Client, Evidence, Facts};
use crate::mutate::{self, Mutation};

/// What is no session's output: what the platform itself says begins so, and what OpenSSH's client
/// says on its standard error although it has a log.
const SENTENCES: [&[u8]; 2] = [b"spillway: ", CUT_OFF];
const CUT_OFF: &[u8] = b"Connection to 127.0.0.1 closed by remote host";

pub(super) fn check(
    evidence: &Evidence,
    facts: &Facts,
    recorded: &Recorded,
    mutation: Option<Mutation>,
    verdict: &mut Verdict,
) -> Result<()> {
    let sessions = by_token(recorded, facts.clients.iter().map(|client| client.token.as_str()));
    let mut mutation = mutation.filter(|mutation| *mutation == Mutation::Shown);
    for client in &facts.clients {
        let read = |stream| {
            let path = evidence.shown(&client.token, stream);
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let (mut stdout, stderr) = (read(OutputStream::Stdout)?, read(OutputStream::Stderr)?);
        if mutation.is_some() && stdout.len() > 10 {
            mutation = None;
            mutate::alter(&mut stdout);
        }
        verdict.shown_bytes += (stdout.len() + stderr.len()) as u64;
        let found = sessions.get(client.token.as_str()).map_or(&[][..], Vec::as_slice);
        match found {
            [] => without_session(client, &stdout, &stderr, verdict),
            [(id, session)] => {
                let who = format!("session {id} ({} {})", client.program.name(), client.token);
                one(&who, OutputStream::Stdout, &stdout, session, verdict);
                one(&who, OutputStream::Stderr, &stderr, session, verdict);
                printed(&who, client, [&stdout, &stderr], session, verdict);
            }
            _ => {
                let token = &client.token;
                verdict.findings.add("shown", format!("{token} has {} sessions", found.len()));
            }
        }
    }
    Ok(())
}

/// A client that is in no session may have been shown the sentence of a refusal, and nothing else.
fn without_session(client: &Client, stdout: &[u8], stderr: &[u8], verdict: &mut Verdict) {
    let unrecorded = stdout.len() + without_sentences(stderr, 0).len();
    if unrecorded > 0 {
        verdict.lost += unrecorded as u64;
        let token = &client.token;
        let sentence = format!("{token} was shown {unrecorded} bytes and is not in the stream");
        verdict.findings.add("shown", sentence);
    }
}

/// What was shown is the beginning of what is recorded.
fn one(who: &str, stream: OutputStream, shown: &[u8], session: &Session, verdict: &mut Verdict) {
    let recorded = session.output(stream);
    let same = shown.iter().zip(recorded).take_while(|(shown, kept)| shown == kept).count();
    let rest = match stream {
        OutputStream::Stdout => shown.get(same..).unwrap_or_default(),
        OutputStream::Stderr => without_sentences(shown, same),
    };
    if !rest.is_empty() {
        verdict.lost += rest.len() as u64;
        let sentence = format!(
            "{who}: of {} at offset {same} {} bytes were shown that are not recorded there",
            stream.as_str(),
            rest.len()
        );
        verdict.findings.add("shown", sentence);
    }
}

/// What is recorded is the beginning of what the program prints; all of it, where it ran to its end
/// and its client saw the end.
fn printed(
    who: &str,
    client: &Client,
    shown: [&[u8]; 2],
    session: &Session,
    verdict: &mut Verdict,
) {
    // A client that has read an exit status and is cut off then prints no more of what it has read.
    let cut_off = shown[1].windows(CUT_OFF.len()).any(|window| window == CUT_OFF);
    let complete = client.status == Some(0) && !cut_off;
    let Some(expected) = client.program.prints(&client.token) else {
        if complete && !client.program.unpacks_to_its_text(&client.token, shown[0]) {
            verdict.findings.add("shown", format!("{who}: the bytes fail their own checksum"));
        }
        return;
    };
    for (stream, expected, shown) in [
        (OutputStream::Stdout, expected.stdout, shown[0]),
        (OutputStream::Stderr, expected.stderr, shown[1]),
    ] {
        let name = stream.as_str();
        let recorded = session.output(stream);
        let same = recorded.iter().zip(&expected).take_while(|(one, other)| one == other).count();
        if !without_sentences(recorded, same).is_empty() {
            let sentence =
                format!("{who}: {name} is recorded otherwise than printed from {same} on");
            verdict.findings.add("shown", sentence);
        }
        if complete && shown != expected {
            let (have, all) = (shown.len(), expected.len());
            let sentence = format!("{who}: exit status 0, but {have} of {all} bytes of {name}");
            verdict.findings.add("shown", sentence);
        }
    }
}

/// What is left of a text from a place on without such sentences, each on a line of its own. A
/// sentence may begin a byte before the place: with the same letter as the line that was expected.
fn without_sentences(text: &[u8], from: usize) -> &[u8] {
    let is_sentence = |line: &[u8]| {
        let line = line.trim_ascii();
        line.is_empty() || SENTENCES.iter().any(|sentence| line.starts_with(sentence))
    };
    let are_sentences = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.split(|&byte| byte == b'\n').all(is_sentence)
    };
    if are_sentences(from) || are_sentences(from.saturating_sub(1)) {
        &[]
    } else {
        text.get(from..).unwrap_or_default()
    }
}
