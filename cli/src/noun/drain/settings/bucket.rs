//! What a drain to a bucket can be told on the command line.

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value, json};

use super::destinations::Destination;
use super::secrets;

/// Which bucket objects go to.
#[derive(Debug, Args)]
pub(crate) struct S3Destination {
    /// The bucket's name.
    #[arg(long, value_name = "BUCKET")]
    bucket: String,
    /// The bucket's region, such as eu-central-1; of other servers, what they call it.
    #[arg(long, value_name = "REGION")]
    region: String,
    /// The address of a server other than Amazon's, https://...
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// What objects' names begin with, such as spillway/production.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// How objects are compressed.
    #[arg(long, default_value = "gzip", value_parser = ["gzip", "zstd", "none"])]
    compression: String,
    /// The storage class, such as GLACIER; default: the bucket's.
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
    /// How the server encrypts objects; default: as the bucket says.
    #[arg(long, value_parser = ["AES256", "aws:kms"])]
    encryption: Option<String>,
    /// The key's id or ARN, for --encryption aws:kms; default: the account's own for S3.
    #[arg(long, value_name = "KEY")]
    kms_key_id: Option<String>,
    /// Seconds after its first line at which an object is written, full or not.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=900))]
    max_seconds: u16,
    /// Bytes before compression at which an object is full.
    #[arg(long, value_name = "BYTES", default_value_t = 8_388_608, value_parser = clap::value_parser!(u32).range(65_536..=67_108_864))]
    max_bytes: u32,
    #[command(flatten)]
    access_key: BucketKey,
}

impl Destination for S3Destination {
    const KIND: &'static str = "s3";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let destination = json!({
            "bucket": self.bucket,
            "region": self.region,
            "endpoint": self.endpoint,
            "prefix": self.prefix,
            "compression": self.compression,
            "storage_class": self.storage_class,
            "encryption": self.encryption,
            "kms_key_id": self.kms_key_id,
            "max_seconds": self.max_seconds,
            "max_bytes": self.max_bytes,
        });
        Ok((destination, self.access_key.read()?))
    }
}

/// How requests to a bucket are signed; all of it is kept sealed.
#[derive(Debug, Args)]
pub(crate) struct BucketKey {
    /// The id of an access key that may put objects (s3:PutObject).
    #[arg(long, value_name = "ID", requires = "secret_access_key_file")]
    access_key_id: Option<String>,
    /// A file with the secret access key; - for standard input.
    #[arg(long, value_name = "FILE", requires = "access_key_id")]
    secret_access_key_file: Option<String>,
    /// A file with the session token of a temporary access key; - for standard input.
    #[arg(long, value_name = "FILE", requires = "access_key_id")]
    session_token_file: Option<String>,
}

impl BucketKey {
    pub(super) fn read(self) -> Result<Map<String, Value>> {
        let mut credentials = secrets([
            ("secret_access_key", self.secret_access_key_file),
            ("session_token", self.session_token_file),
        ])?;
        if let Some(id) = self.access_key_id {
            credentials.insert("access_key_id".to_owned(), id.into());
        }
        Ok(credentials)
    }
}
