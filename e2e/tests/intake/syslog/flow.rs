use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::wait;
use model::Event;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::timeout;

use super::{Syslog, numbered};
use crate::{DEADLINE, text};

#[tokio::test]
async fn what_comes_in_one_connection_is_in_the_stream_in_its_order() -> Result<()> {
    let syslog = Syslog::start().await?;
    let other = syslog.another().await?;
    let texts = numbered(20_000);
    let (mut counted, mut lines) = (String::new(), String::new());
    for (number, text) in texts.iter().enumerate() {
        let message = syslog.message(text);
        write!(counted, "{} {message}", message.len())?;
        let token = if number % 100 == 7 { &other.token } else { syslog.token() };
        writeln!(lines, "<134>Nov 28 15:39:51 h {token}[7]: {text}\r")?;
    }
    syslog.send(counted.as_bytes()).await?;
    let found = syslog.texts(20_000).await?;
    assert_eq!(found, texts);
    syslog.send(lines.as_bytes()).await?;
    syslog.texts(40_000).await?;
    let producers = syslog.by_producer().await?;
    let counts: Vec<usize> = producers.iter().map(|(_, lines)| lines.len()).collect();
    assert_eq!(counts.len(), 3);
    assert!(counts.contains(&20_000) && counts.contains(&19_800) && counts.contains(&200));
    for (_, lines) in producers {
        let numbers =
            lines.iter().map(|line| text(line).replace("message ", "").parse::<usize>().unwrap());
        assert!(numbers.is_sorted());
    }
    assert_eq!(syslog.counts_until(&other, |[lines, ..]| lines > 0).await?, [200, 0, 0, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn a_long_message_is_divided_and_what_ends_without_a_line_end_counts() -> Result<()> {
    let syslog = Syslog::start().await?;
    let long = "\u{20ac}".repeat(1 << 20);
    let message = syslog.message(&long);
    for bytes in
        [format!("{message}\n{}", syslog.message("end")), format!("{} {message}", message.len())]
    {
        let before = syslog.world.lines().await?.len();
        syslog.send(bytes.as_bytes()).await?;
        let lines = wait::until("the end of the message", DEADLINE, async || {
            let lines = syslog.world.lines().await?.split_off(before);
            Ok(lines.iter().any(|line| !line.continued).then_some(lines))
        })
        .await?;
        let end = lines.iter().position(|line| !line.continued).context("an end")?;
        let pieces = &lines[..=end];
        assert!(pieces.iter().all(|line| line.text.len() <= 1 << 20));
        assert_eq!(pieces.iter().map(text).collect::<String>(), long);
        assert!(pieces[0].severity.is_some() && pieces[1].severity.is_none());
        assert!(pieces[1].fields.is_empty());
    }
    let last = syslog.message("cut off by the end");
    syslog.send(format!("{} {last}", last.len() + 100).as_bytes()).await?;
    wait::until_true("the last message", DEADLINE, async || {
        Ok(syslog.world.lines().await?.iter().any(|line| text(line) == "cut off by the end"))
    })
    .await
}

#[tokio::test]
async fn a_quota_slows_a_connection_down_and_loses_nothing() -> Result<()> {
    let syslog = Syslog::start().await?;
    syslog.change(syslog.source.id, "bytes_per_second = 100000, burst_bytes = 50000").await?;
    // Known by now.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let texts = numbered(3000);
    let bytes: String = texts.iter().flat_map(|text| [syslog.message(text), "\n".into()]).collect();
    let begun = Instant::now();
    syslog.send(bytes.as_bytes()).await?;
    assert_eq!(syslog.texts(3000).await?, texts);
    let least = Duration::from_millis((bytes.len() as u64 - 50_000) / 100);
    assert!(begun.elapsed() >= least * 8 / 10, "{:?} of {least:?}", begun.elapsed());
    let [lines, _, _, dropped, throttled] =
        syslog.counts_until(&syslog.source, |[lines, ..]| lines == 3000).await?;
    assert_eq!((lines, dropped), (3000, 0));
    assert!(throttled > 0);
    Ok(())
}

#[tokio::test]
async fn datagrams_over_the_quota_leave_a_record_that_they_are_missing() -> Result<()> {
    let syslog = Syslog::start().await?;
    syslog.change(syslog.source.id, "bytes_per_second = 20000, burst_bytes = 20000").await?;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let unix = UnixDatagram::unbound()?;
    unix.connect(syslog.unix())?;
    let udp = UdpSocket::bind("127.0.0.1:0").await?;
    udp.connect(("127.0.0.1", syslog.udp)).await?;
    let message = syslog.message(&"x".repeat(900));
    // The kernel makes a program wait, so none of its datagrams is lost there.
    for _ in 0..300 {
        unix.send(message.as_bytes()).await?;
    }
    for _ in 0..50 {
        udp.send(message.as_bytes()).await?;
    }
    let missing = wait::until("all to be accounted for", DEADLINE, async || {
        let (mut lines, mut missing) = (0, 0);
        for record in syslog.world.records().await? {
            match record.event {
                Event::Line(_) => lines += 1,
                Event::Gap { lines, reason } => {
                    assert!(reason.contains("quota"), "{reason}");
                    missing += lines;
                }
                event => anyhow::bail!("{event:?}"),
            }
        }
        Ok((lines + missing >= 350).then_some(missing))
    })
    .await?;
    assert!(missing > 250);
    let [lines, _, _, dropped, _] =
        syslog.counts_until(&syslog.source, |counts| counts[0] + counts[3] == 350).await?;
    assert_eq!((lines, dropped), (350 - missing.cast_signed(), missing.cast_signed()));
    Ok(())
}

#[tokio::test]
async fn what_was_sent_before_a_stop_is_in_the_stream() -> Result<()> {
    let mut syslog = Syslog::start().await?;
    let message = syslog.message(&"x".repeat(300)) + "\n";
    let connection = syslog.connect().await?;
    let (mut reading, mut writing) = connection.into_split();
    let sending = async {
        let mut sent = 0;
        // As syslog's senders do: until the other end is seen to be closed.
        while timeout(Duration::ZERO, reading.read(&mut [0; 1])).await.is_err() {
            if writing.write_all(message.repeat(20).as_bytes()).await.is_err() {
                break;
            }
            sent += 20;
        }
        sent
    };
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        syslog.intake.stop(Signal::TERM, DEADLINE).await
    };
    let (sent, status) = tokio::join!(sending, stopping);
    assert!(status?.success(), "{}", syslog.intake.log());
    assert_eq!(syslog.world.lines().await?.len(), sent);
    Ok(())
}

#[tokio::test]
async fn a_killed_intake_loses_no_more_than_it_says() -> Result<()> {
    let mut syslog = Syslog::start().await?;
    let message = |number: usize| syslog.message(&format!("{number} {}", "x".repeat(300))) + "\n";
    let messages: Vec<String> = (0..200_000).map(message).collect();
    let bytes_of_one = messages[0].len();
    let mut connection = syslog.connect().await?;
    let (mut sent, mut killed) = (0, false);
    for (number, message) in messages.iter().enumerate() {
        if number == 20_000 {
            syslog.intake.signal(Signal::KILL)?;
            killed = true;
        }
        if connection.write_all(message.as_bytes()).await.is_err() {
            break;
        }
        sent = number + 1;
    }
    assert!(killed && sent < messages.len());
    syslog.intake.ended(DEADLINE).await?;
    let kept = syslog.world.lines().await?.len();
    // What is not durable of a connection, one read, and the kernel's buffers of both ends.
    let most = (1 << 20) + (64 << 10) + (8 << 20);
    assert!((sent - kept) * bytes_of_one <= most, "{kept} of {sent}");
    // A sender that has kept its messages sends them again.
    syslog.start_again().await?;
    syslog.send(messages[kept..sent].concat().as_bytes()).await?;
    let texts = syslog.texts(sent).await?;
    let numbers = texts.iter().map(|text| text.split(' ').next().unwrap_or_default().parse());
    assert_eq!(numbers.collect::<Result<Vec<usize>, _>>()?, (0..sent).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn connections_that_wait_take_little_memory() -> Result<()> {
    const CONNECTIONS: usize = 2000;
    let syslog = Syslog::start().await?;
    let pid = syslog.intake.pid()?.as_raw_nonzero();
    let memory = || -> Result<usize> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.context("VmRSS")?.trim().trim_end_matches(" kB").parse()?)
    };
    let message = syslog.message("x") + "\n";
    syslog.send(message.as_bytes()).await?;
    syslog.texts(1).await?;
    let before = memory()?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = syslog.connect().await?;
        connection.write_all(message.repeat(20).as_bytes()).await?;
        connections.push(connection);
    }
    syslog.texts(1 + CONNECTIONS * 20).await?;
    let more = memory()?.saturating_sub(before);
    println!("{more} KiB for {CONNECTIONS} connections");
    assert!(more < 16 * CONNECTIONS, "{more} KiB for {CONNECTIONS} connections");
    drop(connections);
    Ok(())
}
