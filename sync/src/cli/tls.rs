//! `spsync tls …`.

use catalog::problem::Problem;
use clap::Subcommand;
use serde_json::Value;

use super::output::{safe, when};
use super::{Global, Output, connect};
use crate::admin::Request;
use crate::config::Loaded;
use crate::tls::{Certificates, TlsVerb};

/// Certificates of the site
#[derive(Debug, Subcommand)]
pub enum Tls {
    /// Make an authority of the site, and a certificate of it for what listens over TLS: [server] and [admin] listen_tls
    Init {
        /// What the site is called: a host name or an address; what is known of it if not given
        #[arg(long, value_name = "HOST")]
        name: Vec<String>,
    },
    /// Show the certificate, and until when it is good
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
        let called =
            connect::call::<Value>(settings, global, output, Request::Tls { act: act.clone() }).await?;
        output.one(
            &called.body,
            |body| body["cert_file"].as_str().unwrap_or_default().to_owned(),
            |output| show(&called.body, &act, output),
        );
        Ok(called.finish(output))
    }
}

/// The certificate, and after `tls init` what comes next.
fn show(body: &Value, act: &TlsVerb, output: &Output) {
    let texts = |value: &Value| -> String {
        let all = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        all.map(safe).collect::<Vec<_>>().join(", ")
    };
    if body["dry_run"].as_bool() == Some(true) {
        let names = texts(&body["names"]);
        let names = if names.is_empty() { "the present names".to_owned() } else { names };
        output.line(format!("would make a certificate for {names}"));
        return;
    }
    let text = |name: &str| safe(body[name].as_str().unwrap_or_default());
    if let Ok(made) = serde_json::from_value::<Certificates>(body["certificates"].clone()) {
        output.line(format!("authority    {}, until {}", safe(&made.authority), when(made.authority_until)));
        output.line(format!("             {}  (points and devices name it as ca_file)", text("ca_file")));
        output.line(format!("certificate  {}, until {}", safe(&made.names.join(", ")), when(made.until)));
    }
    let own = if body["brought_by_operator"].as_bool() == Some(true) {
        "  (that of [tls] cert_file is used)"
    } else {
        ""
    };
    output.line(format!("             {}{own}", text("cert_file")));
    let listens = texts(&body["listen_tls"]);
    if listens.is_empty() {
        output.line(
            "nothing listens by TLS: set [server] listen_tls = [\"[::]:8531\"], then restart the daemon",
        );
        return;
    }
    output.line(format!("listens at   {listens}"));
    if matches!(act, TlsVerb::Init { .. }) {
        output.note("restart the daemon, then bring the authority's file to points (spsync dp enrol DP) and devices (spsync key enrol NAME)");
    }
}
