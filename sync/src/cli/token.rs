//! `spsync token …`: who may use the admin API.

use std::time::Duration;

use catalog::problem::Problem;
use clap::{Subcommand, ValueEnum};
use schema::tokens::{AdminToken, Role};
use serde_json::Value;

use super::output::{Rows, safe, when};
use super::said::show_value;
use super::{Global, Output, connect};
use crate::admin::Request;
use crate::clock;
use crate::config::Loaded;
use crate::tokens::{Made, TokenVerb};

/// Tokens of the admin API
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Create a token (printed once)
    Create {
        /// Its name, which the audit records
        name: String,
        /// What its holder may do
        #[arg(long, value_enum, default_value = "viewer")]
        role: AskedRole,
        /// For how long it is good: 12h, 90d
        #[arg(long, value_name = "TIME", default_value = "90d", value_parser = crate::config::parse_duration)]
        ttl: Duration,
    },
    /// List tokens
    List,
    /// Revoke a token
    Revoke {
        /// Its name
        name: String,
    },
}

/// What the holder of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AskedRole {
    /// Ask
    Viewer,
    /// Synchronise, download, distribute
    Operator,
    /// Everything
    Admin,
}

impl Token {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let verb = |act| Request::Tokens { act };
        match self {
            Self::Create { name, role, ttl } => {
                let role = match role {
                    AskedRole::Viewer => Role::Viewer,
                    AskedRole::Operator => Role::Operator,
                    AskedRole::Admin => Role::Admin,
                };
                let act = TokenVerb::Create { name, role, ttl_seconds: ttl.as_secs() };
                let made = connect::call::<Made>(settings, global, output, verb(act)).await?.body;
                output.one(
                    &made,
                    |made| made.token.clone().unwrap_or_default(),
                    |output| {
                        if let Some(token) = &made.token {
                            output.line(token);
                        }
                        let role = made.role;
                        output.note(format!(
                            "{} `{}`, until {}; it is not shown again",
                            role,
                            made.name,
                            when(made.expires)
                        ));
                    },
                );
            }
            Self::List => {
                let call = connect::call::<Vec<AdminToken>>(settings, global, output, verb(TokenVerb::List));
                let all = call.await?.body;
                let mut rows = Rows::new(&["NAME", "ROLE", "STATE", "CREATED", "UNTIL"]);
                for one in &all {
                    let state = match (one.revoked, one.is_good(clock::now())) {
                        (Some(end), _) if end == one.expires => "over",
                        (Some(_), _) => "revoked",
                        (None, true) => "good",
                        (None, false) => "over",
                    };
                    let role = one.role.to_string();
                    rows.push([
                        safe(&one.name),
                        role,
                        state.to_owned(),
                        when(one.created),
                        when(one.expires),
                    ]);
                }
                output.list(
                    &all,
                    &all,
                    |one| one.name.clone(),
                    rows,
                    "no tokens yet: spsync token create --help",
                );
            }
            Self::Revoke { name } => {
                let call = connect::call::<Value>(settings, global, output, verb(TokenVerb::Revoke { name }));
                show_value(&call.await?.body, output);
            }
        }
        Ok(0)
    }
}
