//! Codes about serving, distribution points, keys, certificates, boundaries.

macro_rules! points {
    ([$first:ident $($rest:ident)*] $($rows:tt)*) => { $first! { [$($rest)*] $($rows)*
    ServeNotHere "SERVE_NOT_HERE" NotFound 404 None,
        "a request names nothing that this point was given",
        "the package was not distributed here, or was withdrawn; it is not here yet, and nothing may be fetched now; or the address is not one of ours",
        "spsync package show P; spsync content list",
        "`spsync package distribute P`, if the client should find it here";
    ServeDamaged "SERVE_DAMAGED" Mismatch 404 None,
        "this point was given a content that it cannot serve",
        "the file is gone, was changed, or the disk does not answer",
        "spsync content show SHA256; the log",
        "`spsync package validate P --repair`";
    ServeForbidden "SERVE_FORBIDDEN" NotPermitted 404 None,
        "private content was asked for without a valid key",
        "the client is not enrolled, its key was revoked, or the package should be public",
        "spsync package show P",
        "enrol the client, or make the package public";
    ServeBusy "SERVE_BUSY" Refused 503 None,
        "too much is being sent already",
        "more clients at once than [server] allows, in all or from one address",
        "spsync status; spsync config show",
        "raise the limits of [server], or let clients come back later as they are told";
    ServeNotYet "SERVE_NOT_YET" Refused 503 None,
        "a content is being fetched because it was asked for, and has not come far enough yet",
        "it is large, the way to its source is slow, or the hashes of its pieces are not known",
        "spsync status on the machine of the point",
        "nothing: clients come back as they are told; or raise `[dp] on_demand_wait`, or distribute the package before it is needed";
    ServeUpstreamFailed "SERVE_UPSTREAM_FAILED" Refused 503 None,
        "a content was asked for that nobody could give this point",
        "the site and the other sources do not answer, or sent something else",
        "the log of the point; spsync status on its machine",
        "bring a source back; clients go elsewhere meanwhile";
    ServeMalformed "SERVE_MALFORMED" Refused 400 None,
        "a request is not one, or could be read in two ways",
        "a broken client, a scanner, or an attempt to smuggle requests past a proxy",
        "the access log",
        "find out who sends it; nothing of ours has to change";
    DpInMaintenance "DP_IN_MAINTENANCE" Refused 409 None,
        "the distribution point is in maintenance",
        "an operator has set it so; nothing is sent there, and clients are not sent there",
        "spsync dp show DP",
        "`spsync dp maintenance DP off`, then the same command again";
    DpPullRing "DP_PULL_RING" Refused 409 None,
        "a distribution point would pull from itself, by way of others",
        "`pull_from` names a point that pulls from this one, or from one that does: each would wait for the next",
        "spsync dp show DP",
        "leave one of the points named out: `spsync dp set DP pull_from=DP1,DP2`; an empty list means the site alone";
    DpStateRefused "DP_STATE_REFUSED" Refused 409 None,
        "the package's state on the distribution point does not allow this",
        "what is there cannot be cancelled or tried again; what is not there cannot be validated",
        "spsync content status",
        "see the state named";
    GroupNotFound "GROUP_NOT_FOUND" NotFound 404 None,
        "no group of distribution points has this name",
        "a misspelt name",
        "spsync dp group list",
        "use a name from `spsync dp group list`, or make one with `spsync dp group create NAME`";
    KeyNotFound "KEY_NOT_FOUND" NotFound 404 None,
        "nobody of this name has a key or a token",
        "a misspelt name, or it was revoked already",
        "spsync key list",
        "use a name from `spsync key list`; `spsync key enrol NAME` makes a token for a device";
    KeyRefused "KEY_REFUSED" NotPermitted 401 Some("0x80070005"),
        "the site does not accept this key",
        "it is another site's, the site was set up anew, or there is no key yet and no token",
        "spsync key list",
        "make a new token at the site, with `spsync key enrol NAME` for a device or `spsync dp enrol DP` for a point, and enrol with it";
    KeyRevoked "KEY_REVOKED" NotPermitted 401 Some("0x80070005"),
        "the site has taken this key back",
        "an operator revoked it or removed the device, nothing was heard of it for `[clients] forget_after`, or another token was used for this name since",
        "spsync key list; spsync client history NAME",
        "if it is to work again: a new token, with `spsync key enrol NAME` for a device or `spsync dp enrol DP` for a point";
    TokenRefused "TOKEN_REFUSED" NotPermitted 403 Some("0x80070005"),
        "the site does not accept this enrolment token",
        "it was used before, it is over, or a later token took its place",
        "spsync key list",
        "make a new token at the site, with `spsync key enrol NAME` for a device or `spsync dp enrol DP` for a point";
    PointIdentityTaken "POINT_IDENTITY_TAKEN" Conflict 409 None,
        "another process has this distribution point's identity",
        "its key or its data directory was copied to another machine",
        "spsync dp show DP",
        "stop one of them; the other gets its own identity with `spsync dp add` and `spsync dp enrol DP`";
    TooManyTries "TOO_MANY_TRIES" NotPermitted 429 None,
        "too many keys or tokens of this address were wrong",
        "somebody is guessing, or a machine has an old key",
        "spsync key list",
        "mend the key: a good one is taken at once, a token after a minute";
    NotOnAPoint "NOT_ON_A_POINT" Refused 409 None,
        "this machine is a distribution point, and its site decides",
        "[dp] role is standard or pull",
        "spsync status",
        "run the command at the site";
    NotAtSite "NOT_AT_SITE" Refused 409 None,
        "this needs a site, and this machine is only a device of a site elsewhere",
        "[client] site names another machine, and no site was ever opened here",
        "spsync config show",
        "run the command at the site; `spsync client log` says what this device did";
    TlsNotSetUp "TLS_NOT_SET_UP" Refused 409 None,
        "there is no certificate",
        "neither [tls] cert_file is set nor `spsync tls init` was run",
        "spsync tls show",
        "`spsync tls init`";
    TlsInvalid "TLS_INVALID" Config 422 None,
        "the certificate or its key cannot be used",
        "no PEM, a key of another certificate, a file that others may read, or an authority that is over",
        "spsync tls show",
        "mend the files of [tls], or run `spsync tls renew`";
    TlsExists "TLS_EXISTS" Conflict 409 None,
        "the site has a certificate authority already",
        "`spsync tls init` was run before",
        "spsync tls show",
        "`spsync tls renew` makes a new certificate; a new authority would shut out every point and device";
    BoundaryInvalid "BOUNDARY_INVALID" Refused 422 None,
        "this is no boundary",
        "an address inside of a net where the net was meant, a range that runs backwards, a name",
        "spsync boundary list",
        "give a subnet (10.20.4.0/24), a range (10.20.4.1-10.20.4.99) or an IPv6 prefix (2001:db8::/32)";
    BoundaryExists "BOUNDARY_EXISTS" Conflict 409 None,
        "there is such a boundary already",
        "-",
        "spsync boundary list",
        "put it into further groups with `spsync boundary group add G --boundary B`";
    BoundaryNotFound "BOUNDARY_NOT_FOUND" NotFound 404 None,
        "there is no such boundary",
        "-",
        "spsync boundary list",
        "name it by its value as listed, or by its name";
    BoundaryGroupNotFound "BOUNDARY_GROUP_NOT_FOUND" NotFound 404 None,
        "there is no such boundary group",
        "-",
        "spsync boundary group list",
        "name it as listed; `default` is that of the site";
    BoundaryGroupExists "BOUNDARY_GROUP_EXISTS" Conflict 409 None,
        "there is a boundary group of this name",
        "-",
        "spsync boundary group list",
        "choose another name";
    BoundaryGroupNeeded "BOUNDARY_GROUP_NEEDED" Refused 409 None,
        "the default site boundary group cannot be deleted",
        "-",
        "spsync boundary group list",
        "take its distribution points out with `spsync boundary group drop G --point P`";
    } };
}
