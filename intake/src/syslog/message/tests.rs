use model::Fields;
use proptest::prelude::*;

use super::*;

const TODAY: Today = Today { year: 2026, month: 11 };
const TOKEN: &str = "sabcdefghijklmnopqrstuvwxyz23456";

fn parse(message: &[u8], today: Today) -> Message<'_> {
    usual::parse(message, today)
        .map_or_else(|| parse_unusual(message, today), |(message, ..)| message)
}

/// The text, and the fields without the facility, one a line.
fn read(message: &[u8]) -> (String, Vec<String>) {
    let found = parse(message, TODAY);
    let mut fields = FieldsPacker::default();
    found.head.pack(None, found.head.token(), &mut fields);
    let fields: Fields = fields.take();
    let fields = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    (String::from_utf8_lossy(&message[found.text..]).into_owned(), fields)
}

fn at(message: &str) -> String {
    parse(message.as_bytes(), TODAY).sent_at.map_or_else(String::new, |at| at.to_string())
}

#[test]
fn messages_of_real_senders_are_read() {
    for (message, text, fields) in [
        // rsyslog and logger, RFC 5424.
        (
            "<134>1 2026-11-28T15:39:51.123456+01:00 web-1 app 77 ID47 - \u{feff}hello  world ",
            "hello  world ",
            vec!["hostname=web-1", "app_name=app", "procid=77", "msgid=ID47"],
        ),
        (
            "<13>1 2026-11-28T15:39:51Z h logger - - [timeQuality tzKnown=\"1\" isSynced=\"0\"] x",
            "x",
            vec![
                "hostname=h",
                "app_name=logger",
                "timeQuality.tzKnown=1",
                "timeQuality.isSynced=0",
            ],
        ),
        ("<13>1 - - - - - -", "", vec![]),
        // An escaped value.
        (
            r#"<13>1 - h a - - [x a="\"\]\\"] y"#,
            "y",
            vec!["hostname=h", "app_name=a", r#"x.a="]\"#],
        ),
        // PostgreSQL and Docker write without a host; text may be indented.
        (
            "<134>Nov 28 15:39:51 postgres[991]: [3-1] \tfrom t",
            "[3-1] \tfrom t",
            vec!["app_name=postgres", "procid=991"],
        ),
        ("<30>Nov  8 05:09:01 app[1]:   at f()", "  at f()", vec!["app_name=app", "procid=1"]),
        ("<13>Nov 28 15:39:51 root: hi", "hi", vec!["app_name=root"]),
        ("<13>Nov 28 15:39:51 root:\thi", "\thi", vec!["app_name=root"]),
        // nginx, rsyslog's forward format.
        ("<190>Nov 28 15:39:51 h nginx: GET /", "GET /", vec!["hostname=h", "app_name=nginx"]),
        (
            "<38>2026-11-28T15:39:51.5+00:00 h sshd[4]: -1 \u{e9}",
            "-1 \u{e9}",
            vec!["hostname=h", "app_name=sshd", "procid=4"],
        ),
        // Neither time nor host.
        ("<13>app[5]: - - x", "- - x", vec!["app_name=app", "procid=5"]),
        ("<13>what is this", "what is this", vec![]),
        ("no priority", "no priority", vec![]),
        ("<999>1 - x", "<999>1 - x", vec![]),
    ] {
        let (found, found_fields) = read(message.as_bytes());
        assert_eq!(
            (found.as_str(), found_fields),
            (text, fields.into_iter().map(str::to_owned).collect()),
            "{message}"
        );
    }
}

#[test]
fn nothing_that_the_loose_parser_leaves_out_is_lost() {
    for (message, text) in [
        ("<1>1 - h a p m [not data] x", "[not data] x"),
        ("<1>1 - h a p m [a b=\"c\"][not data] x", "[a b=\"c\"][not data] x"),
        ("<1>1 - h a p m -x", "-x"),
        ("<1>1 - h a p m  -  x ", " x "),
        ("<1>Nov  8 05:09:01 h a: - x", "- x"),
        ("<1>Nov  8 05:09:01 h a:  -x", " -x"),
        ("<1>Nov  8 05:09:01 h a:\t-x", "\t-x"),
        ("<1>Nov  8 05:09:01 h a [b] c ", "[b] c "),
    ] {
        assert_eq!(read(message.as_bytes()).0, text, "{message}");
    }
    assert_eq!(&parse(b"<1>1 - h a p m - a\xffb", TODAY).text, &17);
    let cut = b"<1>1 - h a p m [a b=\"\xff\"] x";
    assert_eq!(read(cut).0, String::from_utf8_lossy(&cut[3..]));
}

#[test]
fn the_token_is_found_where_senders_can_put_it_and_goes_no_further() {
    for message in [
        format!("<1>1 - h a p m [spillway@32473 token=\"{TOKEN}\"] x"),
        format!("<1>1 - h a p m [k v=\"1\"][spillway@32473 token=\"{TOKEN}\"] x"),
        format!("<1>1 - h a p m [{TOKEN}@41058 tag=\"1\"] x"),
        format!("<1>1 - h a p m [{TOKEN}] x"),
        format!("<1>1 - h a p m [{TOKEN}][not data] x"),
        format!("<1>1 - h {TOKEN} p m - x"),
        format!("<1>1 - h {TOKEN}/web p m - x"),
        format!("<1>Nov 28 15:39:51 h {TOKEN}[9]: x"),
        format!("<1>Nov 28 15:39:51 {TOKEN}[9]: x"),
        format!("<1>Nov 28 15:39:51 {TOKEN}: x"),
        format!("<1>Nov 28 15:39:51 h {TOKEN} x"),
        format!("<1>2026-11-28T15:39:51Z h {TOKEN}: x"),
        format!("<1>{TOKEN}: x"),
    ] {
        assert_eq!(parse(message.as_bytes(), TODAY).head.token(), Some(TOKEN), "{message}");
        let (text, fields) = read(message.as_bytes());
        assert!(!fields.iter().any(|field| field.contains(TOKEN)), "{message}: {fields:?}");
        assert_eq!(text, "x", "{message}");
    }
    let named = read(format!("<1>1 - - {TOKEN}/web - - [{TOKEN}@1 tag=\"1\"] x").as_bytes());
    assert_eq!(named.1, ["app_name=web", "tag=1"]);
}

#[test]
fn times_are_in_utc_and_of_the_year_that_is_nearest() {
    assert_eq!(at("<1>1 2026-11-28T15:39:51.25+01:30 - - - - - x"), "2026-11-28T14:09:51.25Z");
    assert_eq!(at("<1>Nov 28 15:39:51 h a: x"), "2026-11-28T15:39:51Z");
    assert_eq!(at("<1>NOV 28 2025 15:39:51 h a: x"), "2025-11-28T15:39:51Z");
    for (now, written, year) in [(1, 12, 2025), (12, 1, 2027), (1, 1, 2026), (6, 12, 2026)] {
        assert_eq!(Today { year: 2026, month: now }.year_of(written), year);
    }
}

#[test]
fn hostile_messages_take_no_time() {
    let parts: [&str; 8] = ["[", "[a b=\"", "[a b=\"]", "[a]", " ", "\\\"", "<", "[a b=\"c\" "];
    for part in parts {
        let data = part.repeat((1 << 20) / part.len());
        for begin in ["<1>1 - h a p m ", "<1>Nov 28 15:39:51 h a: ", ""] {
            let message = format!("{begin}{data}");
            let before = std::time::Instant::now();
            let found = parse(message.as_bytes(), TODAY);
            let mut fields = FieldsPacker::default();
            found.head.pack(found.facility, found.head.token(), &mut fields);
            assert!(fields.len() <= FIELDS_BYTES);
            assert!(before.elapsed().as_secs() < 2, "{part}: {:?}", before.elapsed());
        }
    }
}

fn like_a_message() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(" "),
        Just("<13>"),
        Just("<191>"),
        Just("<192>"),
        Just("1 "),
        Just("- "),
        Just("-"),
        Just("[x@1 a=\"b\"]"),
        Just("[x a=\"\u{e9}\"] "),
        Just("[a] "),
        Just("[a b]"),
        Just("Nov 28 15:39:51 "),
        Just("Feb  9 05:09:01 "),
        Just("2026-11-28T15:39:51Z "),
        Just("2024-02-29T23:59:59.123456789-11:59 "),
        Just("2026-02-29T00:00:60Z "),
        Just("host "),
        Just("::1 "),
        Just("host: "),
        Just("app[12]: "),
        Just("app: "),
        Just("a[x]:"),
        Just(":"),
        Just("007 "),
        Just("\u{feff}"),
        Just("text"),
        Just("\t"),
        Just("\u{a0}"),
        Just("["),
        Just("]"),
        Just("="),
        Just("\""),
        Just("\\"),
    ];
    let parts = prop::collection::vec(part, 0..9).prop_map(|parts| parts.concat().into_bytes());
    let well_formed = (0..200_u32, "[!-~]{1,5}", "[!-~]{1,5}", "[!-~]{1,5}", "[!-~]{1,5}", parts)
        .prop_flat_map(|(priority, a, b, c, d, rest)| {
            let rest2 = rest.clone();
            prop_oneof![
                Just(
                    [
                        format!("<{priority}>1 2026-11-28T15:39:51.5Z {a} {b} {c} {d} ")
                            .into_bytes(),
                        rest.clone()
                    ]
                    .concat()
                ),
                Just(
                    [
                        format!("<{priority}>Nov 28 15:39:51 {a} {b}[{c}]: ").into_bytes(),
                        rest.clone()
                    ]
                    .concat()
                ),
                Just([format!("<{priority}>Nov 28 15:39:51 {b}: ").into_bytes(), rest2].concat()),
                Just(rest),
            ]
        });
    (well_formed, prop::option::of((any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |(mut message, change)| {
            if let Some((index, byte)) = change
                && !message.is_empty()
            {
                let at = index.index(message.len());
                message[at] = byte;
            }
            message
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_read_by_hand_syslog_loose_reads_the_same(message in like_a_message()) {
        if let Some((found, ..)) = usual::parse(&message, TODAY) {
            prop_assert_eq!(Some(found), loose::parse(&message, TODAY));
        }
    }

    #[test]
    fn a_head_is_the_same_whatever_follows(message in like_a_message(), other in like_a_message()) {
        if let Some(opening) = usual::opening(&message, TODAY)
            && let Some((head, length)) = usual::head(opening.form, &message[opening.head..])
        {
            let before = opening.head + length;
            // At its end, the space is missing.
            if message[..before].ends_with(b" ") {
                let changed = [&message[..before], &other].concat();
                let again = usual::head(opening.form, &changed[opening.head..]);
                prop_assert_eq!(again, Some((head, length)));
            }
        }
    }

    #[test]
    fn whatever_the_bytes_the_text_is_within_them(message in prop::collection::vec(any::<u8>(), 0..60)) {
        prop_assert!(parse(&message, TODAY).text <= message.len());
    }
}
