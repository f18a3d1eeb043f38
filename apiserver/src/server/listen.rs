//! Where the server listens, and what it shows in a handshake.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::ApiServer;
use crate::error::Error;
use crate::http::{Edge, Handshake};

impl ApiServer {
    /// Serves TLS on a listener until shutdown, and drains.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), Error> {
        let _serving = self.core.serving.token();
        crate::http::serve(listener, Arc::new(self.edge()?), self.router(), self.core.shutdown.clone()).await;
        Ok(())
    }

    fn edge(&self) -> Result<Edge, Error> {
        let (certificate, key) = self.serving_certificate()?;
        let config = &self.core.config;
        let handshake = Handshake {
            certificate: &certificate,
            key: &key,
            named: &config.named_certificates,
            options: &config.tls,
            client_ca: config.client_ca.as_deref(),
            front_proxy_ca: config.front_proxies.ca.as_deref(),
        };
        let (mut tls, authorities) = handshake.read().map_err(Error::part("TLS"))?;
        if config.disable_http2_serving {
            tls.alpn_protocols.retain(|protocol| protocol != b"h2");
        }
        let plain = Edge::new(tls);
        let streams = config.http2_streams.unwrap_or(plain.streams);
        Ok(Edge { authorities, streams, goaway_chance: config.goaway_chance, ..plain })
    }

    /// Binds the configured address, or says why it cannot.
    pub async fn bind(&self) -> Result<TcpListener, Error> {
        let address = (self.core.config.bind_address, self.core.config.secure_port).into();
        TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
    }

    fn serving_certificate(&self) -> Result<(PathBuf, PathBuf), Error> {
        let config = &self.core.config;
        match (&config.tls_certificate, &config.tls_private_key) {
            (Some(certificate), Some(key)) => Ok((certificate.clone(), key.clone())),
            (None, None) => self.self_signed(),
            _ => {
                Err(Error::Flag { flag: "tls-cert-file", why: "needs --tls-private-key-file, and the reverse".into() })
            }
        }
    }

    /// A certificate of our own making, for a server that was given none.
    fn self_signed(&self) -> Result<(PathBuf, PathBuf), Error> {
        let config = &self.core.config;
        let first = config.service_cluster_ip_ranges.first().map(|range| range.nth(1));
        let addresses = [Some(config.bind_address), config.advertise_address, first];
        let directory = &config.certificate_directory;
        let doing = format!(
            "write the self-signed certificate to {} (give --tls-cert-file, or a --cert-dir that can be written)",
            directory.display()
        );
        crate::http::self_signed(directory, addresses.into_iter().flatten()).map_err(Error::part(doing))
    }
}
