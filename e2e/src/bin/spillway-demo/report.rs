//! Side by side: what the engineer saw, and what each endpoint got.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use e2e::arrivals::{Arrival, in_order};
use e2e::wait;

const DEADLINE: Duration = Duration::from_secs(20);
const COLUMN: usize = 29;
const WIDTH: usize = 94;

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// What the terminal showed.
    #[arg(long, value_name = "FILE")]
    transcript: PathBuf,
    /// The messages that rsyslog has written.
    #[arg(long, value_name = "FILE")]
    syslog: PathBuf,
    /// The lines that the HTTPS receiver has written.
    #[arg(long, value_name = "FILE")]
    https: PathBuf,
    /// A field that every line must have, NAME=VALUE; may be repeated.
    #[arg(long = "tag", value_name = "TAG", value_parser = tag)]
    tags: Vec<(String, String)>,
}

/// One row of the table; none where the endpoint has no such line.
struct Row {
    shown: String,
    syslog: Option<String>,
    https: Option<String>,
}

impl Report {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let outcome =
            wait::until("both endpoints to get the session's end", DEADLINE, async || {
                let (syslog, https) = self.arrivals()?;
                let ended =
                    |all: &[Arrival]| all.iter().any(|a| a.field("event") == "session_ended");
                Ok((ended(&syslog) && ended(&https)).then_some(()))
            })
            .await;
        if let Err(error) = outcome {
            println!("  {error}");
        }
        let (syslog, https) = self.arrivals()?;
        let shown = shown_lines(&String::from_utf8_lossy(&std::fs::read(&self.transcript)?));
        let rows = side_by_side(&shown, &output_of(&syslog), &output_of(&https));
        print_table(&rows);

        let missing = |of: fn(&Row) -> bool| rows.iter().filter(|row| of(row)).count();
        let mut is_complete = !rows.is_empty();
        for (name, all, missing) in [
            ("rsyslog", &syslog, missing(|row| row.syslog.is_none())),
            ("HTTPS", &https, missing(|row| row.https.is_none())),
        ] {
            // What was done to the drains themselves is no session's.
            let of_session = all.iter().filter(|arrival| !arrival.field("session_id").is_empty());
            let untagged = of_session.filter(|arrival| !self.is_tagged(arrival)).count();
            is_complete &= missing == 0 && untagged == 0;
            let arrived = rows.len() - missing;
            let tagged = match untagged {
                0 => "all with the tags".to_owned(),
                some => format!("{some} WITHOUT the tags"),
            };
            println!("  {name:<8} {arrived} of {} lines arrived, {tagged}", rows.len());
        }
        let tags: Vec<String> =
            self.tags.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        println!("  tags     {}", tags.join(" "));
        let events: Vec<&str> =
            https.iter().filter(|a| !a.is_output()).map(|a| a.field("event")).collect();
        println!("  also     {}\n", events.join(", "));
        print_example("One line as syslog:", output_of(&syslog).last());
        print_example("The same line as JSON:", output_of(&https).last());
        Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn arrivals(&self) -> Result<(Vec<Arrival>, Vec<Arrival>)> {
        let syslog = std::fs::read(&self.syslog).unwrap_or_default();
        let https = std::fs::read_to_string(&self.https).unwrap_or_default();
        let syslog = String::from_utf8_lossy(&syslog).lines().map(Arrival::from_syslog).collect();
        let https: Result<_> =
            https.lines().map(|line| Arrival::from_json(&serde_json::from_str(line)?)).collect();
        Ok((in_order(syslog), in_order(https?)))
    }

    fn is_tagged(&self, arrival: &Arrival) -> bool {
        self.tags.iter().all(|(name, value)| arrival.field(name) == value)
    }
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a tag is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn output_of(arrivals: &[Arrival]) -> Vec<Arrival> {
    arrivals.iter().filter(|arrival| arrival.is_output()).cloned().collect()
}

/// The lines on the screen, without what only moves the cursor.
fn shown_lines(screen: &str) -> Vec<String> {
    let mut text = String::new();
    let mut characters = screen.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => {
                // Shells send nothing but CSI sequences here; those end with a letter.
                characters.find(|end| end.is_ascii_alphabetic() || *end == '~');
            }
            '\r' => {}
            shown => text.push(shown),
        }
    }
    text.lines().map(str::to_owned).collect()
}

fn side_by_side(shown: &[String], syslog: &[Arrival], https: &[Arrival]) -> Vec<Row> {
    let (mut syslog, mut https) = (syslog, https);
    shown
        .iter()
        .map(|line| Row {
            shown: line.clone(),
            syslog: take_line(line, &mut syslog),
            https: take_line(line, &mut https),
        })
        .collect()
}

/// Takes the arrivals that make up the line: a pause in it (a prompt that waits) cuts it in two.
fn take_line(line: &str, arrivals: &mut &[Arrival]) -> Option<String> {
    let mut text = String::new();
    for (index, arrival) in arrivals.iter().enumerate() {
        text.push_str(&arrival.message);
        if text == line {
            *arrivals = arrivals.get(index + 1..).unwrap_or_default();
            return Some(text);
        }
        if !line.starts_with(&text) {
            return None;
        }
    }
    None
}

fn print_table(rows: &[Row]) {
    let rule = |left, middle, right| {
        let bar = "─".repeat(COLUMN + 2);
        println!("  {left}{bar}{middle}{bar}{middle}{bar}{right}");
    };
    let line = |cells: [&str; 3]| {
        let [a, b, c] = cells.map(|cell| format!("{:<COLUMN$}", shortened(cell)));
        println!("  │ {a} │ {b} │ {c} │");
    };
    rule("┌", "┬", "┐");
    line(["The engineer saw", "rsyslog got, over TLS", "The HTTPS receiver got"]);
    rule("├", "┼", "┤");
    for row in rows {
        let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "(missing)".to_owned());
        line([&row.shown, &cell(&row.syslog), &cell(&row.https)]);
    }
    rule("└", "┴", "┘");
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= COLUMN {
        return text.to_owned();
    }
    text.chars().take(COLUMN - 1).chain(['…']).collect()
}

fn print_example(title: &str, arrival: Option<&Arrival>) {
    let Some(arrival) = arrival else { return };
    println!("  {title}");
    let mut line = String::new();
    for word in arrival.raw.split_inclusive([' ', ',']) {
        if line.len() + word.trim_end().len() > WIDTH {
            println!("    {line}");
            line.clear();
        }
        line.push_str(word);
    }
    println!("    {line}\n");
}
