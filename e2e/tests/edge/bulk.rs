//! Many bytes, strange bytes, and slow readers.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::OutputStream;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{DEADLINE, Fixture, WEB, output};

/// Bytes that do not compress, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn resident_bytes(fixture: &Fixture) -> Result<u64> {
    let pid = fixture.edge.pid()?.as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kilobytes * 1024)
}

#[tokio::test]
async fn sixty_four_mebibytes_come_back_byte_exact_and_are_recorded() -> Result<()> {
    let fixture = Fixture::start().await?;
    let input = noise(64 << 20);
    let finished = fixture.run_with_input(&[], "cat", input.clone()).await?;
    assert!(finished.stdout == input, "{} bytes, {}", finished.stdout.len(), finished.error_text());
    let records = fixture.records(fixture.sessions().await?[0]).await?;
    assert!(output(&records, OutputStream::Stdout) == input);
    Ok(())
}

#[tokio::test]
async fn long_line_and_invalid_utf8_are_kept_as_they_are() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut input = vec![b'x'; 1 << 20];
    input.extend_from_slice(b"\n\xff\xfe\x00\xc3\x28\xed\xa0\x80 end");
    let finished = fixture.run_with_input(&[], "cat", input.clone()).await?;
    assert!(finished.stdout == input);
    let records = fixture.records(fixture.sessions().await?[0]).await?;
    assert!(output(&records, OutputStream::Stdout) == input);
    Ok(())
}

#[tokio::test]
async fn input_that_nobody_reads_is_held_back() -> Result<()> {
    let fixture = Fixture::start().await?;
    fixture.run(&[], "true").await?;
    let before = resident_bytes(&fixture)?;
    let mut ssh = fixture.ssh.ssh(WEB, &[]);
    ssh.arg("sleep 4; echo done").stdin(std::fs::File::open("/dev/zero")?).stdout(Stdio::piped());
    let child = ssh.kill_on_drop(true).spawn()?;
    let watch = async {
        let mut most = 0;
        loop {
            most = most.max(resident_bytes(&fixture)?);
            let grown = most.saturating_sub(before);
            anyhow::ensure!(grown < 48 << 20, "the edge grew by {grown} bytes");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // The watch only ends with an error.
    let finished = tokio::select! {
        outcome = watch => { let _: () = outcome?; anyhow::bail!("unreachable") }
        finished = tokio::time::timeout(DEADLINE, child.wait_with_output()) => finished??,
    };
    assert_eq!(finished.stdout, b"done\n");
    Ok(())
}

#[tokio::test]
async fn slow_reader_of_a_large_echo_gets_all_of_it() -> Result<()> {
    let fixture = Fixture::start().await?;
    let before = resident_bytes(&fixture)?;
    let input = noise(48 << 20);
    let mut ssh = fixture.ssh.ssh(WEB, &[]);
    ssh.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = ssh.kill_on_drop(true).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    let feed = async {
        stdin.write_all(&input).await?;
        drop(stdin);
        anyhow::Ok(())
    };
    let read = async {
        let mut hash = Sha256::new();
        let (mut total, mut most) = (0, 0);
        let mut buffer = vec![0; 1 << 20];
        // Nothing is read at first, so that everything on the way fills up.
        tokio::time::sleep(Duration::from_secs(3)).await;
        loop {
            let count = stdout.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            total += count;
            most = most.max(resident_bytes(&fixture)?);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        anyhow::Ok((total, hash.finalize(), most))
    };
    let both = async { tokio::try_join!(feed, read) };
    let ((), (total, hash, most)) = tokio::time::timeout(DEADLINE * 2, both).await??;
    assert_eq!(total, input.len());
    assert_eq!(hash, Sha256::digest(&input));
    let grown = most.saturating_sub(before);
    assert!(grown < 64 << 20, "the edge grew by {grown} bytes");
    Ok(())
}

#[tokio::test]
async fn stalled_session_does_not_stall_its_neighbour_on_the_same_connection() -> Result<()> {
    let fixture = Fixture::start().await?;
    let socket = fixture.folder.path().join("control");
    let control = format!("ControlPath={}", socket.display());
    let options = ["-o", "ControlMaster=auto", "-o", "ControlPersist=yes", "-o", &control];
    let mut stalled = fixture.ssh.ssh(WEB, &options);
    stalled.arg("cat /dev/zero").stdin(Stdio::null()).stdout(Stdio::piped());
    // Its output is never read.
    let mut stalled = stalled.kill_on_drop(true).spawn()?;
    e2e::wait::until_true("the first connection", DEADLINE, async || Ok(socket.exists())).await?;
    for _ in 0..3 {
        assert_eq!(fixture.run(&options, "echo free").await?.text(), "free\n");
    }
    stalled.kill().await?;
    let mut stop = fixture.ssh.ssh(WEB, &["-O", "exit", "-o", &control]);
    stop.stdout(Stdio::null());
    e2e::process::finish(stop, DEADLINE).await?;
    Ok(())
}
