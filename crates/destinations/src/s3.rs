//! Objects in a bucket.

use model::validation::Checks;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Compression, Configuration, Server, rules};

/// A bucket of Amazon S3, or of a server that speaks its protocol (MinIO, Cloudflare R2, Ceph, ...),
/// for the kind `s3`. The credentials are `access_key_id`, `secret_access_key` and, for temporary ones,
/// `session_token`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The bucket's name.
    #[schema(example = "acme-logs")]
    pub bucket: String,
    /// The bucket's region; what other servers than Amazon's call it, such as `auto` or `us-east-1`.
    #[schema(example = "eu-central-1")]
    pub region: String,
    /// The address of a server other than Amazon's. The bucket's name is added as the path.
    #[schema(example = "https://minio.example.com:9000")]
    pub endpoint: Option<String>,
    /// What objects' names begin with, without a slash at either end; nothing, if left out.
    #[serde(default)]
    #[schema(example = "spillway/production")]
    pub prefix: String,
    /// How objects are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// The storage class, such as `STANDARD_IA`; the bucket's own, if left out.
    pub storage_class: Option<String>,
    /// How the server encrypts objects; as the bucket says, if left out.
    pub encryption: Option<Encryption>,
    /// The key of the encryption `aws:kms`: its id or ARN; the account's own for S3, if left out.
    pub kms_key_id: Option<String>,
    /// Seconds after its first line at which an object is written, full or not.
    #[serde(default = "max_seconds")]
    #[schema(minimum = 1, maximum = 900)]
    pub max_seconds: u16,
    /// Bytes before compression at which an object is full. An operator's limit may be lower
    /// (`--drain-redelivery-bytes`).
    #[serde(default = "max_bytes")]
    #[schema(minimum = 65536, maximum = 67_108_864)]
    pub max_bytes: u32,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

/// How a server encrypts objects (Amazon S3 API reference, `PutObject`,
/// `x-amz-server-side-encryption`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Encryption {
    /// With keys of the server's.
    #[serde(rename = "AES256")]
    #[schema(rename = "AES256")]
    Aes256,
    /// With a key of its key management service.
    #[serde(rename = "aws:kms")]
    #[schema(rename = "aws:kms")]
    AwsKms,
}

impl Encryption {
    /// The header's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::AwsKms => "aws:kms",
        }
    }
}

const fn max_seconds() -> u16 {
    60
}

const fn max_bytes() -> u32 {
    8 * 1024 * 1024
}

impl S3 {
    /// The bucket's address. Amazon's wants the bucket in the host, but its certificates are for names
    /// without a dot there (Amazon S3 user guide, "Virtual hosting of general purpose buckets").
    #[must_use]
    pub fn address(&self) -> String {
        let Self { bucket, region, .. } = self;
        match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/{bucket}"),
            None if bucket.contains('.') => format!("https://s3.{region}.amazonaws.com/{bucket}"),
            None => format!("https://{bucket}.s3.{region}.amazonaws.com"),
        }
    }
}

impl Configuration for S3 {
    fn check(&mut self, checks: &mut Checks) {
        // Amazon S3 user guide, "General purpose bucket naming rules".
        let bucket = &self.bucket;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        checks.rule(
            (3..=63).contains(&bucket.len())
                && bucket.chars().all(allowed)
                && !bucket.starts_with(['.', '-'])
                && !bucket.ends_with(['.', '-'])
                && !bucket.contains(".."),
            "destination.bucket",
            "must have 3 to 63 of a-z, 0-9, . and -, with a letter or digit at both ends",
        );
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        checks.rule(
            (1..=40).contains(&self.region.len()) && self.region.chars().all(allowed),
            "destination.region",
            "must be a region's name, such as eu-central-1",
        );
        if let Some(endpoint) = &mut self.endpoint {
            rules::base_url(checks, "destination.endpoint", endpoint);
        }
        // Amazon S3 user guide, "Naming Amazon S3 objects", safe characters; = for folders that name a
        // column.
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()=".contains(c);
        let folder =
            |folder: &str| !["", ".", ".."].contains(&folder) && folder.chars().all(allowed);
        checks.rule(
            self.prefix.is_empty()
                || self.prefix.len() <= 512 && self.prefix.split('/').all(folder),
            "destination.prefix",
            "must have at most 512 letters, digits, !-_.*'()= and single slashes within",
        );
        let class = self.storage_class.as_deref().unwrap_or("STANDARD");
        let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "_-".contains(c);
        checks.rule(
            (1..=64).contains(&class.len()) && class.chars().all(allowed),
            "destination.storage_class",
            "must be a storage class, such as STANDARD_IA",
        );
        let key = self.kms_key_id.as_deref();
        let fits = key.is_none_or(|key| rules::is_header_value(key) && !key.contains(' '));
        checks.rule(fits, "destination.kms_key_id", "must be a key's id or ARN");
        checks.rule(
            key.is_none() || self.encryption == Some(Encryption::AwsKms),
            "destination.kms_key_id",
            "is for the encryption aws:kms only",
        );
        let (seconds, bytes) = (self.max_seconds, self.max_bytes);
        checks.rule((1..=900).contains(&seconds), "destination.max_seconds", "must be 1 to 900");
        checks.rule(
            (65_536..=67_108_864).contains(&bytes),
            "destination.max_bytes",
            "must be 65536 to 67108864",
        );
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        // Another bucket of the same server sees no other's credentials.
        match &self.endpoint {
            Some(endpoint) => Server::of_url(endpoint),
            None => Server::of(&format!("s3.{}.amazonaws.com", self.region), 443),
        }
    }
}
