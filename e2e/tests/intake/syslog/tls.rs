use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use e2e::wait;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{LOOKS_AGAIN, Syslog};
use crate::{DEADLINE, text};

/// A certificate that nobody vouches for, and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Identity {
    fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(Vec::new())?.self_signed(&key)?;
        Ok(Self { certificate: certificate.der().clone(), key })
    }
}

async fn connect(
    syslog: &Syslog,
    version: &'static SupportedProtocolVersion,
    identity: Option<&Identity>,
) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(syslog.world.folder.path().join("ca.pem"))?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
            let key = aws_lc_rs::sign::any_supported_type(&key)?;
            // Whether they go together is not looked at here.
            let identity = CertifiedKey::new(vec![certificate.clone()], key);
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
    };
    let stream = TcpSocket::new_v4()?.connect(([127, 0, 0, 1], syslog.tls).into()).await?;
    Ok(TlsConnector::from(Arc::new(config)).connect("localhost".try_into()?, stream).await?)
}

#[tokio::test]
async fn a_client_certificate_is_as_good_as_a_token() -> Result<()> {
    let syslog = Syslog::start().await?;
    let identity = Identity::new()?;
    let hash = Sha256::digest(&identity.certificate);
    let set = format!("client_certificates = array['\\x{hash:x}'::bytea]");
    syslog.change(syslog.source.id, &set).await?;
    let other = syslog.another().await?;
    for (version, before) in [(&TLS12, 0), (&TLS13, 3)] {
        let mut connection = connect(&syslog, version, Some(&identity)).await?;
        let with_token = format!("<13>1 - h {} - - - of another\n", other.token);
        let messages = format!("<13>1 - h app - - - mine\n{with_token}no priority\n");
        connection.write_all(messages.as_bytes()).await?;
        let lines = syslog.world.lines_until(before + 3).await?.split_off(before);
        let mut texts: Vec<_> = lines.iter().map(text).collect();
        texts.sort();
        assert_eq!(texts, ["mine", "no priority", "of another"]);
    }
    let counted = syslog.counts_until(&syslog.source, |[lines, ..]| lines == 4).await?;
    assert_eq!(counted, [4, 0, 2, 0, 0]);
    assert_eq!(syslog.counts_until(&other, |[lines, ..]| lines == 2).await?, [2, 0, 0, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn a_disabled_source_is_refused_by_its_certificate_too() -> Result<()> {
    let syslog = Syslog::start().await?;
    let identity = Identity::new()?;
    let hash = Sha256::digest(&identity.certificate);
    let set = format!("client_certificates = array['\\x{hash:x}'::bytea]");
    syslog.change(syslog.source.id, &set).await?;
    sleep(LOOKS_AGAIN).await;
    let message = b"<13>1 - h app - - - mine\n";
    let mut open = connect(&syslog, &TLS13, Some(&identity)).await?;
    open.write_all(message).await?;
    syslog.texts(1).await?;

    syslog.change(syslog.source.id, "disabled_at = now()").await?;
    // What has a connection already is refused as soon as the intake has looked.
    wait::until_true("a refusal", DEADLINE, async || {
        // The intake may have closed it.
        open.write_all(message).await.ok();
        sleep(Duration::from_millis(50)).await;
        Ok(syslog.counts(&syslog.source).await?[1] > 0)
    })
    .await?;
    let lines = syslog.world.lines().await?.len();
    let refused = syslog.counts(&syslog.source).await?[1];
    let mut new = connect(&syslog, &TLS13, Some(&identity)).await?;
    new.write_all(message).await.ok();
    let counted = |[_, now, ..]: [i64; 5]| now > refused;
    syslog.counts_until(&syslog.source, counted).await?;
    assert_eq!(syslog.world.lines().await?.len(), lines);

    syslog.change(syslog.source.id, "disabled_at = null").await?;
    wait::until_true("it to be good again", DEADLINE, async || {
        let mut again = connect(&syslog, &TLS13, Some(&identity)).await?;
        again.write_all(message).await.ok();
        again.shutdown().await.ok();
        sleep(Duration::from_millis(100)).await;
        Ok(syslog.world.lines().await?.len() > lines)
    })
    .await
}

#[tokio::test]
async fn a_certificate_of_no_source_ends_the_connection() -> Result<()> {
    let syslog = Syslog::start().await?;
    let message = syslog.message("with a token") + "\n";
    let mut refused = connect(&syslog, &TLS13, Some(&Identity::new()?)).await?;
    refused.write_all(message.as_bytes()).await.ok();
    let end = timeout(DEADLINE, refused.read(&mut [0; 1])).await?;
    assert!(matches!(end, Ok(0) | Err(_)));
    let mut without = connect(&syslog, &TLS13, None).await?;
    without.write_all(message.as_bytes()).await?;
    without.flush().await?;
    assert_eq!(syslog.texts(1).await?, ["with a token"]);
    assert!(syslog.intake.log().contains("the client certificate is not that of a log source"));
    Ok(())
}

#[tokio::test]
async fn a_certificate_without_its_key_is_no_identity() -> Result<()> {
    let syslog = Syslog::start().await?;
    let (mut thief, victim) = (Identity::new()?, Identity::new()?);
    thief.certificate = victim.certificate;
    let connected = connect(&syslog, &TLS12, Some(&thief)).await;
    assert!(connected.is_err(), "the handshake proves nothing");
    Ok(())
}
