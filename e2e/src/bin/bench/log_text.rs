//! Log text that compresses as real logs do: 4.5 times at zstd's level 1.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const PATHS: [&str; 8] = [
    "/v1/orders",
    "/v1/orders/items",
    "/v1/customers",
    "/health",
    "/v1/invoices/pdf",
    "/login",
    "/v1/search",
    "/assets/app.js",
];
const STATUSES: [u16; 8] = [200, 200, 200, 200, 200, 201, 304, 404];
const WARNINGS: [&str; 4] = [
    "connection pool is nearly exhausted, waiting for a free connection",
    "retrying after a timeout of the payment provider",
    "slow query: select * from orders where customer_id = $1 order by created_at desc limit 50",
    "cache entry has expired and could not be refreshed, serving the old one",
];

/// At least so many bytes of whole lines, the same in every run.
pub(crate) fn log_text(bytes: usize) -> String {
    let mut random = StdRng::seed_from_u64(7);
    let mut text = String::with_capacity(bytes + 512);
    let mut micros = 0_u64;
    let mut number = 0_u64;
    while text.len() < bytes {
        number += 1;
        micros += random.random_range(20..4000);
        text.push_str(&line(&mut random, micros, number));
    }
    text
}

fn line(random: &mut StdRng, micros: u64, number: u64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (9 + seconds / 3600 % 12, seconds / 60 % 60, seconds % 60);
    let worker = random.random_range(1..9);
    let time = format!("2026-11-02T{hours:02}:{minutes:02}:{seconds:02}.{micros:06}Z");
    let id: u32 = random.random();
    if random.random_ratio(1, 12) {
        let warning = WARNINGS.get(random.random_range(0..WARNINGS.len())).unwrap_or(&"");
        return format!(
            "{time} web-{worker} WARN  request_id={id:08x} line={number} message=\"{warning}\"\n"
        );
    }
    let path = PATHS.get(random.random_range(0..PATHS.len())).unwrap_or(&"");
    let status = STATUSES.get(random.random_range(0..STATUSES.len())).unwrap_or(&200);
    let customer = random.random_range(1000..9000);
    let millis = random.random_range(1..250);
    format!(
        "{time} web-{worker} INFO  request_id={id:08x} line={number} method=GET path={path} \
         status={status} customer={customer} duration_ms={millis} remote=10.12.{worker}.17 \
         agent=\"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\"\n"
    )
}
