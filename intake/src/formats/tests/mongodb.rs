use super::{read, said};

/// In the forms that the manuals of `MongoDB` 7.0 and 4.2 give.
const LOG: &str = r#"{"t":{"$date":"2026-05-20T20:10:08.731+00:00"},"s":"I","c":"NETWORK","id":12345,"ctx":"listener","svc":"R","msg":"Listening on","attr":{"address":"127.0.0.1"}}
{"t":{"$date":"2026-05-20T20:10:08.731+02:00"},"s":"W","c":"COMMAND","id":51803,"ctx":"conn281","msg":"Slow query","attr":{"type":"command","ns":"stocks.trades","durationMillis":1013}}
{"t":{"$date":"2026-05-20T20:10:08.731Z"},"s":"D1","c":"-","id":1,"ctx":"main","msg":"x","attr":{"ns":{"db":"no text"}}}
{"t":{"$date":"2026-05-20T20:10:08.731+00:00"},"s":"F","c":"ASSERT","id":23091,"ctx":"a \"b\"","msg":"Fatal assertion","attr":{"msgid":1}}
{"t":{"$date":"2026-05-20T20:10:08.731+00:00"},"s":"E","c":"STORAGE","id":20557,"ctx":"initandlisten","msg":"DBException in initAndListen"}
2026-05-20T19:00:00.000+0000 I  NETWORK  [initandlisten] waiting for connections on port 27017
2026-05-20T19:00:00.000+0100 E  -        [conn1] something
{"t":1,"s":"I"}
{"level":"info"}
about to fork child process, waiting until server is ready for connections.
"#;

#[test]
fn both_formats_are_understood() {
    let said: Vec<_> = read("mongodb", LOG).iter().map(said).collect();
    assert_eq!(
        said,
        [
            "info 2026-05-20T20:10:08.731Z component=NETWORK context=listener id=12345 [1]",
            "warning 2026-05-20T18:10:08.731Z component=COMMAND context=conn281 id=51803 \
             database=stocks [1]",
            "debug 2026-05-20T20:10:08.731Z context=main id=1 [1]",
            "critical 2026-05-20T20:10:08.731Z component=ASSERT context=a \"b\" id=23091 [1]",
            "error 2026-05-20T20:10:08.731Z component=STORAGE context=initandlisten id=20557 [1]",
            "info 2026-05-20T19:00:00Z component=NETWORK context=initandlisten [1]",
            "error 2026-05-20T18:00:00Z context=conn1 [1]",
            "- -  [1]",
            "- -  [1]",
            "- -  [1]",
        ]
    );
}
