//! Lines as containers write them.

use anyhow::Result;
use model::{Event, LogLine, OutputStream, Source};

use super::*;

fn lines(records: Vec<Record>) -> Vec<LogLine> {
    let lines = records.into_iter().filter_map(|record| match record.event {
        Event::Line(line) => Some(*line),
        _ => None,
    });
    lines.collect()
}

const LONG: &str = "\
    head -c 40000 /dev/zero | tr '\\0' a; echo b; head -c 1500000 /dev/zero | tr '\\0' c; echo d; \
    echo; echo last";

fn assert_long(lines: &[LogLine]) {
    let sizes: Vec<_> = lines.iter().map(|line| (line.text.len(), line.continued)).collect();
    let rest = 1_500_001 - (1 << 20);
    let expected = [(40_001, false), (1 << 20, true), (rest, false), (0, false), (4, false)];
    assert_eq!(sizes, expected);
    assert!(lines[0].text.ends_with(b"ab"));
    assert!(lines[2].text.ends_with(b"cd"));
    assert_eq!(lines[1].sent_at, lines[2].sent_at);
    assert!(lines[2].fields.is_empty() && !lines[1].fields.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_come_whole() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let _intake = world.follows(&containers)?;
    containers.run(&[], LONG).await?;
    assert_long(&lines(world.ends(1).await?));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_of_a_terminal_come_whole() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let _intake = world.follows(&containers)?;
    // The terminal makes CR LF of LF.
    containers.run(&["--tty"], LONG).await?;
    let lines = lines(world.ends(1).await?);
    assert_long(&lines);
    assert!(lines.iter().all(|line| line.stream == Some(OutputStream::Stdout)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn terminal_may_write_any_bytes() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let _intake = world.follows(&containers)?;
    containers.run(&["--tty"], r"printf '\001\000\000\000\000\000\000\002ab\n\377\n'").await?;
    let lines = lines(world.ends(1).await?);
    assert_eq!(lines[0].text[..], b"\x01\0\0\0\0\0\0\x02ab"[..]);
    // Docker's own log has text only.
    assert_eq!(lines[1].text[..], "\u{fffd}".as_bytes()[..]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn line_without_an_end_ends_with_its_container() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let id = containers.run(&[], "printf out; printf err >&2").await?;
    containers.docker(&["wait", &id]).await?;
    containers.docker(&["start", &id]).await?;
    containers.docker(&["wait", &id]).await?;
    let _intake = world.follows(&containers)?;
    let mut texts = texts(&world.ends(2).await?);
    texts.sort();
    assert_eq!(texts, ["err", "err", "out", "out"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_database_are_its_own() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let _intake = world.follows(&containers)?;
    let script = "echo 'LOG:  ready'; exec sleep 100";
    containers.run_of(&["--label", "spillway.database=main"], &[], script).await?;
    world.lines_until(1).await?;
    let records = world.records().await?;
    assert_eq!(texts(&records), ["LOG:  ready"]);
    for record in &records {
        assert_eq!(record.origin.source, Source::Database);
        let database = record.origin.database.as_ref();
        assert_eq!(database.map(|database| database.id.uuid()), Some(world.main));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_are_rotated_are_followed() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let _intake = world.follows(&containers)?;
    let count =
        "n=0; while [ $n -lt 3000 ]; do n=$((n+1)); echo $n; [ $((n%20)) = 0 ] && sleep 0.02; done";
    for driver in ["json-file", "local"] {
        let flags =
            ["--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=3"];
        containers.run(&flags, count).await?;
    }
    let records = world.ends(2).await?;
    for producer in [0, 1] {
        let mut producers: Vec<_> = records.iter().map(|r| r.origin.producer).collect();
        producers.sort();
        producers.dedup();
        let of_one = records.iter().filter(|r| r.origin.producer == producers[producer]);
        assert_counted(&of_one.cloned().collect::<Vec<_>>(), 3000);
    }
    Ok(())
}
