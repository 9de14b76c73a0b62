//! The attack in short, with a fixed seed; and the proof that it fails when anything is missing.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::process::{self, Finished};
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(170);

async fn chaos(arguments: &[&str]) -> Result<Finished> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(arguments);
    process::finish(command, DEADLINE).await
}

fn path(folder: &Path) -> Result<&str> {
    folder.to_str().context("the temporary folder's path is text")
}

#[tokio::test]
async fn nothing_shown_is_missing_after_an_attack_and_the_check_finds_what_is_taken_away()
-> Result<()> {
    let folder = tempfile::tempdir()?;
    let evidence = path(folder.path())?;
    let load = ["--bulk", "2", "--sessions", "4"];
    let attack = ["--minutes", "0.5", "--seed", "90", "--evidence", evidence];
    let run = chaos(&[&attack[..], &load].concat()).await?;
    let said = run.text();
    println!("{}{said}", run.error_text());
    assert!(run.status.success(), "{}", run.status);
    let last = said.lines().last().context("it ends with the count")?;
    assert!(last.starts_with("chaos: ") && last.ends_with(", seed 90"), "{last}");
    assert!(last.contains(" 0 lost, "), "{last}");
    // The faults that senders feel were among them, and something came in on every way.
    for fault in ["kill-intake", "cut-senders"] {
        assert!(said.lines().any(|line| line.starts_with(fault)), "{fault}: {said}");
    }
    let has_container = rustix::process::geteuid().is_root();
    let ways = ["http", "syslog-tls", "docker"];
    for way in ways.into_iter().filter(|way| *way != "docker" || has_container) {
        let row = said.lines().find(|line| line.starts_with(&format!("{way} ")));
        let row = row.with_context(|| format!("{way} is in the table"))?;
        let sent = row.split_whitespace().nth(1).context("it says how many were sent")?;
        assert!(sent.parse::<u64>()? > 100, "{row}");
    }

    // The same evidence, less one block, one line, one byte.
    let mut mutations = vec![
        ("stream", "comes byte"),
        ("receiver", "comes after byte"),
        ("shown", "were shown"),
        ("stream-lines", "was acknowledged and is not in the stream"),
        ("receiver-lines", "lost: syslog: producer"),
    ];
    if has_container {
        mutations.push(("printed", "docker: not in the stream"));
    }
    for (mutation, named) in mutations {
        let check = chaos(&["--check", evidence, "--mutate", mutation]).await?;
        let said = check.text();
        assert_eq!(check.status.code(), Some(1), "{mutation}: {said}");
        assert!(said.contains(named), "{mutation}: {said}");
        assert!(!said.contains(" 0 lost"), "{mutation}: {said}");
    }
    assert!(chaos(&["--check", evidence]).await?.status.success());
    Ok(())
}

#[tokio::test]
async fn block_deleted_in_the_database_fails_the_run() -> Result<()> {
    let run = chaos(&[
        "--minutes",
        "0.05",
        "--seed",
        "4",
        "--sessions",
        "2",
        "--bulk",
        "1",
        "--mutate",
        "stream",
    ]);
    let run = run.await?;
    let said = run.text();
    assert_eq!(run.status.code(), Some(1), "{said}{}", run.error_text());
    assert!(said.contains("stream: session"), "{said}");
    Ok(())
}
