//! Codes about deployments, collections, client settings; and what should not happen.

macro_rules! deployments {
    ([$first:ident $($rest:ident)*] $($rows:tt)*) => { $first! { [$($rest)*] $($rows)*
    DeploymentNotFound "DEPLOYMENT_NOT_FOUND" NotFound 404 None,
        "no deployment has this id or name",
        "a misspelt id, or it was deleted",
        "spsync deploy list; spsync deploy phased list",
        "use an id from `spsync deploy list`, or a name from `spsync deploy phased list`";
    DeploymentOver "DEPLOYMENT_OVER" Refused 409 None,
        "the deployment is not offered any more",
        "it was stopped, or it has expired",
        "spsync deploy list",
        "make another deployment with `spsync deploy create`";
    DeploymentPackageChoiceRequired "DEPLOYMENT_PACKAGE_CHOICE_REQUIRED" Refused 422 None,
        "feature updates of the task sequence are not downloaded, and nothing says where they shall come from",
        "-",
        "spsync updates list",
        "add one of --package P, --new-package NAME --to DP, or --no-package to `spsync deploy create`";
    ContentNotReachable "CONTENT_NOT_REACHABLE" Refused 409 None,
        "devices of some boundary groups reach no place that has the content",
        "no distribution point of their group or of a neighbour has it, and the cloud is not allowed",
        "spsync boundary group list; spsync dp list",
        "distribute the package to a point in their reach, or allow the cloud";
    ContentNotDistributed "CONTENT_NOT_DISTRIBUTED" Refused 409 None,
        "the content is on no distribution point",
        "a phased deployment begins by itself later, so its content must be there before",
        "spsync dp list; spsync package list",
        "`spsync package distribute` sends it";
    HighRiskCollection "HIGH_RISK_COLLECTION" Refused 409 None,
        "a required upgrade of the operating system does not go to a built-in collection",
        "-",
        "spsync collection list",
        "make a collection with `spsync collection create`, and deploy to that";
    HighRiskTooLarge "HIGH_RISK_TOO_LARGE" Refused 409 None,
        "the collection has more devices than a high-risk deployment may reach",
        "[limits] deployment_maximum_size",
        "spsync collection list; spsync config show",
        "deploy to a smaller collection, or in phases with `spsync deploy phased create`";
    HighRiskSiteSystem "HIGH_RISK_SITE_SYSTEM" Refused 409 None,
        "the collection holds machines of the site itself",
        "[limits] deploy_to_site_systems is `block`",
        "spsync collection list; spsync dp list",
        "take them out with `spsync collection remove`";
    HighRiskUnconfirmed "HIGH_RISK_UNCONFIRMED" Refused 409 None,
        "a required upgrade of the operating system reaches more than usual, and nobody has said that it is meant",
        "many devices, servers, or machines of the site are in the collection",
        "spsync deploy list",
        "look at `spsync deploy check`, then add --confirm-high-risk; the audit keeps who did";
    InternetStartUnsupported "INTERNET_START_UNSUPPORTED" Refused 422 None,
        "on the internet a task sequence starts from the running system only",
        "-",
        "-",
        "leave out --internet, or offer it to clients only";
    PhaseActive "PHASE_ACTIVE" Conflict 409 None,
        "a phase that has begun cannot be changed",
        "-",
        "spsync deploy phased list",
        "change its deployment with `spsync deploy change`, or a later phase";
    PhaseRefused "PHASE_REFUSED" Refused 409 None,
        "the phased deployment does not allow this now",
        "it is suspended, or every phase has begun",
        "spsync deploy phased list",
        "look at it with `spsync deploy phased show`";
    PhasesInvalid "PHASES_INVALID" Refused 422 None,
        "these phases cannot be",
        "fewer than two or more than twelve, a collection twice, a success criterion that nothing can meet",
        "spsync deploy phased list",
        "see `spsync deploy phased create`";
    TaskSequenceDeployed "TASK_SEQUENCE_DEPLOYED" Conflict 409 None,
        "the task sequence is deployed",
        "-",
        "spsync deploy list",
        "delete its deployments with `spsync deploy delete` first";
    DeviceNotFound "DEVICE_NOT_FOUND" NotFound 404 None,
        "no device of this name is known",
        "a misspelt name, it has never asked this site for anything, or it was removed",
        "spsync client list; spsync key list; spsync client history NAME",
        "use a name from `spsync client list`, or enrol it: `spsync key enrol NAME`";
    NotTargeted "NOT_TARGETED" NotPermitted 403 None,
        "this is not deployed to the device",
        "its collections changed, or the message is about another device's deployment",
        "spsync collection list; spsync deploy list",
        "put the device into the collection with `spsync collection add`, if it is meant";
    CollectionNotFound "COLLECTION_NOT_FOUND" NotFound 404 None,
        "no collection has this name",
        "a misspelt name, or it was deleted",
        "spsync collection list",
        "use a name from `spsync collection list`";
    CollectionBuiltIn "COLLECTION_BUILT_IN" Refused 409 None,
        "this collection belongs to the site and cannot be changed",
        "-",
        "spsync collection list",
        "make one with `spsync collection create NAME`";
    SettingsNotFound "SETTINGS_NOT_FOUND" NotFound 404 None,
        "no client settings have this name",
        "a misspelt name; new ones need a priority",
        "spsync settings list",
        "make them with `spsync settings set NAME priority=10 KEY=VALUE`";
    InvalidSetting "INVALID_SETTING" Refused 422 None,
        "a client setting has a value that is not accepted",
        "a misspelt value, or one out of range",
        "spsync settings show default",
        "use one of the values named above";
    Internal "INTERNAL" Failed 500 None,
        "something happened that should not",
        "a defect in spsync",
        "the log",
        "report it with the log and what was done before";
    } };
}
