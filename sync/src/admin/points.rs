//! Verbs about distribution points, groups and keys.

use std::sync::Arc;

use catalog::problem::{Code, Problem};
use schema::keys::PrincipalKind;
use serde::{Deserialize, Serialize};

use super::{Answer, Caller, Request};
use crate::site::Site;
use crate::{keys, points};

/// What is asked about distribution points.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum PointVerb {
    /// All points.
    List,
    /// One point and what it is to hold.
    Show {
        /// Its name.
        dp: String,
    },
    /// Adds a point.
    Add {
        /// Its name.
        name: String,
        /// Where clients reach it.
        url: String,
        /// Where they reach it over TLS.
        #[serde(default)]
        tls_url: Option<String>,
        /// Points that it asks before the site.
        pull_from: Vec<String>,
    },
    /// Changes settings of a point.
    Set {
        /// Its name.
        dp: String,
        /// Keys and values.
        changes: Vec<(String, String)>,
    },
    /// Puts a point into maintenance, or takes it out.
    Maintenance {
        /// Its name.
        dp: String,
        /// Into it.
        on: bool,
    },
    /// Forgets a point.
    Remove {
        /// Its name.
        dp: String,
    },
    /// Every package on every point, or one package.
    Status {
        /// Id or name.
        package: Option<String>,
    },
    /// Packages down, points or groups across, a mark a cell.
    Coverage {
        /// Groups are across.
        #[serde(default)]
        groups: bool,
        /// What is on no point too.
        #[serde(default)]
        all: bool,
    },
    /// Makes an enrolment token.
    Enrol {
        /// For what.
        kind: PrincipalKind,
        /// Its name.
        name: String,
    },
    /// Who has a key.
    Keys,
    /// Takes a key back.
    Revoke {
        /// Whose.
        kind: PrincipalKind,
        /// Its name.
        name: String,
    },
    /// Makes a group.
    GroupCreate {
        /// Its name.
        name: String,
    },
    /// All groups.
    GroupList,
    /// One group.
    GroupShow {
        /// Its name.
        group: String,
    },
    /// Puts points into a group.
    GroupJoin {
        /// Its name.
        group: String,
        /// Names of points.
        points: Vec<String>,
    },
    /// Takes points out of a group.
    GroupLeave {
        /// Its name.
        group: String,
        /// Names of points.
        points: Vec<String>,
    },
    /// Forgets a group.
    GroupDelete {
        /// Its name.
        group: String,
    },
    /// Does something for a package on points.
    Package {
        /// Id or name.
        package: String,
        /// Points or groups; empty: all that it is on.
        on: Vec<String>,
        /// What.
        what: points::Act,
    },
}

pub(super) async fn dispatch(site: &Arc<Site>, verb: PointVerb, caller: &Caller) -> Result<Answer, Problem> {
    match verb {
        PointVerb::List => Answer::of(&points::all(site).await?),
        PointVerb::Show { dp } => points::show(site, &dp).await,
        PointVerb::Add { name, url, tls_url, pull_from } => {
            points::add(site, &name, &url, tls_url.as_deref(), &pull_from, caller).await
        }
        PointVerb::Set { dp, changes } => points::set(site, &dp, &changes, caller).await,
        PointVerb::Maintenance { dp, on } => points::maintenance(site, &dp, on, caller).await,
        PointVerb::Remove { dp } => points::remove(site, &dp, caller).await,
        PointVerb::Status { package } => points::status(site, package.as_deref()).await,
        PointVerb::Coverage { groups, all } => points::coverage(site, groups, all).await,
        PointVerb::Enrol { kind, name } => keys::enrol(site, kind, &name, caller).await,
        PointVerb::Keys => keys::list(site).await,
        PointVerb::Revoke { kind, name } => keys::revoke(site, kind, &name, caller).await,
        PointVerb::GroupCreate { name } => points::group_create(site, &name, caller).await,
        PointVerb::GroupList => points::group_list(site).await,
        PointVerb::GroupShow { group } => points::group_show(site, &group).await,
        PointVerb::GroupJoin { group, points } => points::group_join(site, &group, &points, caller).await,
        PointVerb::GroupLeave { group, points } => points::group_leave(site, &group, &points, caller).await,
        PointVerb::GroupDelete { group } => points::group_delete(site, &group, caller).await,
        PointVerb::Package { package, on, what } => points::act(site, &package, &on, what, caller).await,
    }
}

/// On a distribution point's own machine only questions are answered: what it holds its site decides.
///
/// # Errors
/// `NOT_ON_A_POINT`.
pub(super) fn may_be_asked(site: &Site, request: &Request) -> Result<(), Problem> {
    if request.is_of_a_point() || site.settings().dp.is_site() {
        return Ok(());
    }
    let message = format!("this machine is a distribution point of {}", site.settings().dp.site);
    Err(Problem::new(Code::NotOnAPoint, message))
}
