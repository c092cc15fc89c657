//! `spsync key …`: who has a key; and the tokens by which points and devices get one.

use catalog::problem::Problem;
use clap::Subcommand;
use schema::keys::PrincipalKind;
use serde_json::Value;

use super::output::{Rows, safe, when};
use super::said::show_value;
use super::{Global, Output, connect};
use crate::admin::{PointVerb, Request};
use crate::config::Loaded;
use crate::keys::{Listed, Token};

/// Keys of points and devices
#[derive(Debug, Subcommand)]
pub enum Key {
    /// List who has a key or a token
    List,
    /// Create a one-time enrolment token for a device (24 h, printed once)
    Enrol {
        /// Name of the device
        device: String,
    },
    /// Revoke a key
    Revoke {
        /// Name of the device or distribution point
        name: String,
        /// The key is that of a distribution point
        #[arg(long)]
        point: bool,
    },
}

impl Key {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        match self {
            Self::List => {
                let request = Request::Points { act: PointVerb::Keys };
                let all = connect::call::<Vec<Listed>>(settings, global, output, request).await?.body;
                let mut rows = Rows::new(&["KIND", "NAME", "ENROLLED", "SEEN", "REVOKED"]);
                for Listed { principal: one, token_until } in &all {
                    let time = |time: Option<_>| time.map_or_else(|| "-".to_owned(), when);
                    rows.push([
                        one.kind.to_string(),
                        safe(&one.name),
                        token_until.map_or_else(
                            || when(one.created),
                            |until| format!("token until {}", when(until)),
                        ),
                        time(one.last_seen),
                        time(one.revoked),
                    ]);
                }
                let none =
                    "nobody has enrolled: spsync key enrol NAME for a device, spsync dp enrol DP for a point";
                output.list(
                    &all,
                    &all,
                    |one| format!("{} {}", one.principal.kind, one.principal.name),
                    rows,
                    none,
                );
                Ok(0)
            }
            Self::Enrol { device } => token(PrincipalKind::Device, device, settings, global, output).await,
            Self::Revoke { name, point } => {
                super::confirm(global, &format!("revoke the key of `{name}`"))?;
                let kind = if point { PrincipalKind::Point } else { PrincipalKind::Device };
                let request = Request::Points { act: PointVerb::Revoke { kind, name } };
                let called = connect::call::<Value>(settings, global, output, request).await?;
                show_value(&called.body, output);
                Ok(called.finish(output))
            }
        }
    }
}

/// Makes a token that enrols `name`, and prints it once.
pub(super) async fn token(
    kind: PrincipalKind,
    name: String,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    let request = Request::Points { act: PointVerb::Enrol { kind, name } };
    let body = connect::call::<Value>(settings, global, output, request).await?.body;
    let Ok(token) = serde_json::from_value::<Token>(body.clone()) else {
        show_value(&body, output);
        return Ok(0);
    };
    output.one(
        &token,
        |token| token.token.clone(),
        |output| {
            output.line(&token.token);
            output.note(format!(
                "the token of {} `{}`: good once, until {}, and not shown again. Put it into a file that only \
                 spsync may read there, {}",
                token.kind,
                safe(&token.name),
                when(token.expires),
                match token.kind {
                    PrincipalKind::Point => "and name that in [dp] token_file",
                    PrincipalKind::Device => "then run `spsync client enrol --token-file FILE` there",
                }
            ));
        },
    );
    Ok(0)
}
