//! `spsync tls …`.

use catalog::problem::Problem;
use clap::Subcommand;
use serde_json::Value;

use super::{Global, Output, connect};
use crate::admin::Request;
use crate::config::Loaded;
use crate::tls::TlsVerb;

/// Certificates of the site
#[derive(Debug, Subcommand)]
pub enum Tls {
    /// Make an authority of the site, and a certificate of it for [server] listen_tls
    Init {
        /// What the site is called: a host name or an address; what is known of it if not given
        #[arg(long, value_name = "HOST")]
        name: Vec<String>,
    },
    /// What there is, and until when
    Show,
    /// Make another certificate now; the daemon does so by itself in time
    Renew {
        /// What the site is called; as before if not given
        #[arg(long, value_name = "HOST")]
        name: Vec<String>,
    },
}

impl Tls {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let act = match self {
            Self::Init { name } => TlsVerb::Init { names: name },
            Self::Show => TlsVerb::Show,
            Self::Renew { name } => TlsVerb::Renew { names: name },
        };
        let called = connect::call::<Value>(settings, global, output, Request::Tls { act }).await?;
        super::package::show_value(&called.body, output);
        Ok(called.finish(output))
    }
}
