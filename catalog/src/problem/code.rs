//! The registry of codes: one row each, with the page that `spsync explain` prints.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a code means for a script: the command's exit status (design of the command line, section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitClass {
    /// 1: it failed.
    Failed,
    /// 2: the command line was wrong.
    Usage,
    /// 3: not found, or ambiguous.
    NotFound,
    /// 4: refused by a rule.
    Refused,
    /// 5: locked, or changed meanwhile.
    Conflict,
    /// 6: the daemon does not answer.
    Unreachable,
    /// 7: partly done; the failed items are listed.
    Partly,
    /// 8: validation found mismatches.
    Mismatch,
    /// 9: stopped waiting; the task goes on.
    StoppedWaiting,
    /// 10: not permitted.
    NotPermitted,
    /// 78: the configuration is invalid (`EX_CONFIG` of sysexits).
    Config,
    /// 130: interrupted.
    Interrupted,
}

impl ExitClass {
    /// The number given to the shell.
    pub fn status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Conflict => 5,
            Self::Unreachable => 6,
            Self::Partly => 7,
            Self::Mismatch => 8,
            Self::StoppedWaiting => 9,
            Self::NotPermitted => 10,
            Self::Config => 78,
            Self::Interrupted => 130,
        }
    }
}

/// What `spsync explain CODE` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// What it means.
    pub meaning: &'static str,
    /// What usually causes it; `-` where the meaning says it all.
    pub causes: &'static str,
    /// What to look at, commands separated by semicolons; `-` where there is nothing to look at.
    pub checks: &'static str,
    /// What to do next.
    pub help: &'static str,
    /// The Windows code of the same meaning, if the field knows one.
    pub windows: Option<&'static str>,
    /// The HTTP status of the API's answer.
    pub http: u16,
    /// The exit status of the command.
    pub exit: ExitClass,
}

macro_rules! codes {
    ($($variant:ident $name:literal $exit:ident $http:literal $windows:expr, $meaning:literal, $causes:literal, $checks:literal, $help:literal;)*) => {
        /// A stable code: never renamed, never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = concat!("`", $name, "`; [`Code::page`] has the page about it.")] #[serde(rename = $name)] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the registry.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The code as it is printed: `HASH_MISMATCH`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// The page about it.
            pub fn page(self) -> Page {
                match self {
                    $(Code::$variant => Page {
                        meaning: $meaning, causes: $causes, checks: $checks, help: $help,
                        windows: $windows, http: $http, exit: ExitClass::$exit,
                    },)*
                }
            }
        }
    };
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Code {
    type Err = crate::id::InvalidId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Code::ALL
            .iter()
            .copied()
            .find(|code| code.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| crate::id::InvalidId::new(text, "a code of spsync"))
    }
}

codes! {
    Usage "USAGE" Usage 400 None,
        "the command line was not understood",
        "a misspelt command, flag or value",
        "run the command with --help",
        "run the same command with `--help`";
    ConfigInvalid "CONFIG_INVALID" Config 422 None,
        "the configuration has a value that cannot be used",
        "a wrong type, an unknown name, a value out of range",
        "spsync config check; spsync config show --origin",
        "correct the line named above, then `spsync config check`";
    ConfigUnknownKey "CONFIG_UNKNOWN_KEY" Config 422 None,
        "the configuration has a key that spsync does not know",
        "a misspelt key, or a key of another version",
        "spsync config example",
        "correct or remove the key, then `spsync config check`";
    ConfigUnreadable "CONFIG_UNREADABLE" Config 500 None,
        "a configuration file cannot be read",
        "the file named by --config does not exist, or its permissions forbid it",
        "ls -l on the file named",
        "name an existing file with `--config FILE`; `spsync config example` prints a whole one";
    DataDirNotWritable "DATA_DIR_NOT_WRITABLE" Config 500 None,
        "the data directory cannot be written",
        "spsync runs as another user than the directory's owner, or the directory is on a read-only file system",
        "ls -ld on the directory named; id",
        "set `[site] data_dir` in a file named by `--config FILE`, or run as the owner of the directory";
    SiteLocked "SITE_LOCKED" Conflict 409 None,
        "another spsync process works on this site",
        "a daemon without an admin socket, or another command in its own process",
        "spsync status; ls -l on the lock file named",
        "wait until the other process ends, or talk to the daemon through its socket";
    DaemonUnreachable "DAEMON_UNREACHABLE" Unreachable 503 None,
        "the daemon does not answer",
        "it is stopped, or still starting; the socket belongs to another group",
        "systemctl status spsync; ls -l on the socket",
        "start it with `spsync serve`";
    NeedsDaemon "NEEDS_DAEMON" Refused 409 None,
        "this needs a running daemon",
        "no daemon runs for this site",
        "spsync status",
        "start one with `spsync serve`, or leave the flag out";
    NotPermitted "NOT_PERMITTED" NotPermitted 403 Some("0x80070005"),
        "you may not do this",
        "the caller is not in the group that the admin socket belongs to",
        "id; ls -l on the socket",
        "join the group, then log in again";
    Interrupted "INTERRUPTED" Interrupted 503 None,
        "the work was interrupted",
        "Ctrl-C, a stopped service, a cancelled task",
        "spsync task list",
        "run the same command again: it goes on where it stopped";
    WaitTimeout "WAIT_TIMEOUT" StoppedWaiting 504 None,
        "waiting took longer than --timeout",
        "the work is large, or the source is slow",
        "spsync task show ID",
        "the task goes on; `spsync task wait ID`";
    Cancelled "CANCELLED" Interrupted 409 None,
        "the task was cancelled",
        "somebody ran `spsync task cancel`",
        "spsync task show ID",
        "run the same command again: it goes on where it stopped";
    ConfirmationRequired "CONFIRMATION_REQUIRED" Refused 409 None,
        "this asks for a confirmation",
        "the command removes something and no terminal is there to ask",
        "-",
        "repeat the command with `--yes`";
    InvalidOption "INVALID_OPTION" Usage 422 None,
        "an option has a value that is not accepted",
        "a misspelt value",
        "run the command with --help",
        "use one of the values listed by `--help`";
    NotFound "NOT_FOUND" NotFound 404 None,
        "there is nothing of this name",
        "a misspelt name, or it was deleted",
        "the `list` command of the same noun",
        "use a name or id that the `list` command of the same noun prints";
    Ambiguous "AMBIGUOUS" NotFound 409 None,
        "several things have names that begin so",
        "the prefix is too short",
        "the names given as causes",
        "use one of them, or a longer prefix";
    UpdateNotFound "UPDATE_NOT_FOUND" NotFound 404 None,
        "no update has this id or name",
        "it was never synchronised, or the Upgrades classification is off",
        "spsync updates list --all; spsync sync classifications",
        "run `spsync now`, then `spsync updates list --all`";
    PackageNotFound "PACKAGE_NOT_FOUND" NotFound 404 None,
        "no deployment package has this id or name",
        "a misspelt name, or it was deleted",
        "spsync package list",
        "use a name or id from `spsync package list`";
    ContentNotFound "CONTENT_NOT_FOUND" NotFound 404 None,
        "no content of this name is known or distributed here",
        "it was not distributed, or was withdrawn",
        "spsync content list",
        "distribute a package that holds it";
    ContentUnavailable "CONTENT_UNAVAILABLE" Failed 503 None,
        "no source could give this content",
        "no distribution point has it and the cloud is not reachable",
        "spsync content show HASH",
        "distribute a package that holds it, or allow a source";
    DpNotFound "DP_NOT_FOUND" NotFound 404 None,
        "no distribution point has this name",
        "a misspelt name",
        "spsync dp list",
        "use a name from `spsync dp list`";
    TaskBusy "TASK_BUSY" Conflict 409 None,
        "a task does something else to the same thing",
        "it was started with other options, or by somebody else",
        "spsync task list",
        "wait for the task with `spsync task wait ID`, or `spsync task cancel ID`; then the same command again";
    TaskNotFound "TASK_NOT_FOUND" NotFound 404 None,
        "no task has this number",
        "it was forgotten after its retention, or never existed",
        "spsync task list",
        "use a number from `spsync task list`";
    RunNotFound "RUN_NOT_FOUND" NotFound 404 None,
        "no synchronisation run has this number",
        "-",
        "spsync sync history",
        "use a number from `spsync sync history`";
    UnknownProduct "UNKNOWN_PRODUCT" Refused 422 None,
        "no synchronised catalog has this product",
        "a misspelt name",
        "spsync sync products",
        "use a name from `spsync sync products`";
    UnknownClassification "UNKNOWN_CLASSIFICATION" Refused 422 None,
        "there is no classification of this name",
        "a misspelt name",
        "spsync sync classifications",
        "use a name from `spsync sync classifications`";
    UnknownRelease "UNKNOWN_RELEASE" Refused 422 None,
        "no synchronised catalog has this release",
        "a misspelt name, or another product",
        "spsync sync products",
        "use one of the names listed";
    UnknownLanguage "UNKNOWN_LANGUAGE" Refused 422 None,
        "no synchronised catalog has this language",
        "a misspelt code; codes look like en-us",
        "spsync sync products",
        "use one of the codes listed";
    UnknownArchitecture "UNKNOWN_ARCHITECTURE" Refused 422 None,
        "there is no architecture of this name",
        "a misspelt name; x64, x86 and arm64 are known",
        "-",
        "use x64, x86 or arm64";
    UnknownEdition "UNKNOWN_EDITION" Refused 422 None,
        "no synchronised catalog has this edition group",
        "a misspelt name",
        "spsync sync products",
        "use one of the names listed";
    ClassificationNotEnabled "CLASSIFICATION_NOT_ENABLED" Refused 409 None,
        "the Upgrades classification is off, so no feature update is listed",
        "[sync] classifications does not name Upgrades",
        "spsync sync classifications",
        "`spsync sync classifications --set Upgrades`, then `spsync now`";
    CatalogMalformed "CATALOG_MALFORMED" Failed 502 None,
        "a catalog cannot be read",
        "the document is damaged, or is no ESD catalog",
        "the file and place named above",
        "fetch the catalog again; the database is unchanged";
    CatalogTruncated "CATALOG_TRUNCATED" Failed 502 None,
        "a catalog ends too early",
        "the download was cut, or the file is a fragment",
        "the file and place named above",
        "fetch the catalog again; the database is unchanged";
    CatalogTooLarge "CATALOG_TOO_LARGE" Failed 502 None,
        "a catalog is larger than spsync is willing to read",
        "a hostile or mistaken source",
        "the file named above",
        "check the source; the limits stand in docs/PROTOCOL.md";
    CabMalformed "CAB_MALFORMED" Failed 502 None,
        "a cabinet cannot be read",
        "the file is damaged, or is no cabinet",
        "cabextract -t FILE",
        "fetch the file again; the database is unchanged";
    CabSpanned "CAB_SPANNED" Failed 502 None,
        "a cabinet is one part of a set",
        "the rest of the set is in other files",
        "cabextract -l FILE",
        "give the whole catalog as one cabinet";
    CabUnsupported "CAB_UNSUPPORTED" Failed 502 None,
        "a cabinet is compressed in a way that spsync does not read",
        "Quantum compression",
        "cabextract -l FILE",
        "unpack it with cabextract and give the XML file";
    ImageMalformed "IMAGE_MALFORMED" Failed 422 None,
        "a WIM or ESD file cannot be read",
        "the file is damaged, or is no WIM or ESD",
        "wimlib-imagex info FILE",
        "fetch the file again";
    SourceUnreachable "SOURCE_UNREACHABLE" Failed 502 Some("12007"),
        "a source cannot be reached",
        "name resolution, routing, a firewall or a proxy",
        "the address named above, with curl",
        "check name, network and proxy, then run the command again";
    SourceNotFound "SOURCE_NOT_FOUND" Failed 502 Some("0x80070194"),
        "a source says that it has no such file",
        "the link of the catalog has expired, or the mirror lacks the file",
        "the address named above, with curl",
        "run `spsync now` for fresh links, or give another source";
    SourceRefused "SOURCE_REFUSED" Failed 502 Some("0x80070005"),
        "a source refuses to answer",
        "missing rights, a proxy that wants authentication",
        "the address named above, with curl",
        "check the rights at the source";
    SourceFailed "SOURCE_FAILED" Failed 502 Some("0x800701F6"),
        "a source failed",
        "an error inside the source (5xx), or an answer that HTTP does not allow",
        "the address named above, with curl",
        "run the command again later: what was received is kept";
    SyncTlsUntrusted "SYNC_TLS_UNTRUSTED" Failed 502 None,
        "a source's certificate is not trusted",
        "a proxy that inspects TLS, a private authority, a wrong clock",
        "openssl s_client -connect HOST:443",
        "add the issuer to [tls] extra_ca_file, then run the command again";
    NetworkNotAllowed "NETWORK_NOT_ALLOWED" Refused 403 None,
        "an address in a private network was refused",
        "the source, or a redirect, points into a network that is not named for it",
        "the address named above",
        "if that is meant, name the network in allow_networks of the source";
    RedirectNotAllowed "REDIRECT_NOT_ALLOWED" Refused 403 None,
        "a redirect to a host that is not on the list was refused",
        "a captive portal, a proxy, a hostile source",
        "the address named above",
        "if that is meant, name the final address in catalogs";
    TooManyRedirects "TOO_MANY_REDIRECTS" Failed 502 None,
        "a source redirects without end",
        "a mistake in the source's configuration",
        "the address named above, with curl -L",
        "correct the source";
    SchemeNotAllowed "SCHEME_NOT_ALLOWED" Refused 422 None,
        "only http and https addresses are fetched",
        "a catalog or a source with another kind of address",
        "the address named above",
        "use an http or https address, or a file";
    TransferStalled "TRANSFER_STALLED" Failed 504 None,
        "a source stopped sending",
        "a slow or broken path",
        "the address named above",
        "run the command again: what was received is kept";
    TransferCutShort "TRANSFER_CUT_SHORT" Failed 502 None,
        "a source ended before the whole file had come",
        "a broken path, a proxy with a limit",
        "the address named above",
        "run the command again: what was received is kept";
    TransferTooLong "TRANSFER_TOO_LONG" Failed 502 None,
        "a source sent more than the file has",
        "a looping or hostile source, another file under the same address",
        "the address named above",
        "run `spsync now`, then the command again; nothing was stored";
    WrongRange "WRONG_RANGE" Failed 502 None,
        "a source answered with another part than was asked for",
        "a proxy that strips or rewrites Range",
        "the address named above, with curl -r",
        "use another source, or a path without that proxy";
    SizeMismatch "SIZE_MISMATCH" Failed 502 None,
        "a file has another size than the catalog says",
        "the link serves another file",
        "the address named above",
        "run `spsync now`, then the command again; nothing was stored";
    HashMismatch "HASH_MISMATCH" Failed 502 Some("0x80091007"),
        "a file has another digest than the catalog says",
        "corruption on the way, or the link serves another file",
        "the address named above",
        "run `spsync now`, then the command again; nothing was stored";
    Sha256Required "SHA256_REQUIRED" Refused 409 None,
        "only a SHA-1 was published for this file, and [download] require_sha256 is on",
        "an older catalog",
        "spsync updates show ID",
        "set require_sha256 = false, or choose a newer release";
    DiskFull "DISK_FULL" Failed 507 Some("0x80070070"),
        "there is not enough space on the disk",
        "the content library has reached [download] min_free",
        "df -h on the directory named; spsync status",
        "free space, then run the command again: what was received is kept";
    DiskError "DISK_ERROR" Failed 500 None,
        "the disk could not be read or written",
        "a failing disk, missing rights",
        "the file named above; dmesg",
        "mend the cause, then run the command again";
    ContentCorrupt "CONTENT_CORRUPT" Mismatch 500 None,
        "stored content no longer has its digest",
        "a failing disk, or somebody changed the file",
        "spsync package validate P",
        "download the package again: the bad file was set aside";
    DatabaseTooNew "DATABASE_TOO_NEW" Failed 500 None,
        "the database was written by a newer spsync",
        "an older program was installed over a newer one",
        "spsync version",
        "install the newer program again, or restore a backup";
    DatabaseFailed "DATABASE_FAILED" Failed 500 None,
        "the database could not be read or written",
        "a full or failing disk",
        "df -h on the data directory; dmesg",
        "mend the cause, then run the command again: nothing half-written is kept";
    SyncPartial "SYNC_PARTIAL" Partly 502 None,
        "some catalogs could not be synchronised",
        "see the catalogs listed",
        "spsync sync show RUN",
        "mend the cause, then `spsync now`";
    ProtocolMalformed "PROTOCOL_MALFORMED" Failed 502 None,
        "an update server's answer cannot be understood",
        "a proxy's own page, another service at that address, a damaged answer",
        "spsync sync test; the address named above, with curl",
        "check the source's url, then `spsync now`: what is recorded stays";
    UpstreamFault "UPSTREAM_FAULT" Failed 502 None,
        "an update server refuses a call",
        "its own failure, or an argument that it does not like",
        "the fault named above; the server's own log",
        "run `spsync now` again later; what is recorded stays";
    UpstreamBusy "UPSTREAM_BUSY" Failed 503 None,
        "an update server is busy",
        "many servers ask at once",
        "spsync sync test",
        "run `spsync now` again later: it goes on where it stopped";
    UpstreamCookie "UPSTREAM_COOKIE" Failed 502 None,
        "an update server refuses every cookie that it gives",
        "a load balancer without affinity, a wrong clock, a server that was restored",
        "spsync sync test",
        "check the server, then `spsync now`: it goes on where it stopped";
    UpstreamIncompatible "UPSTREAM_INCOMPATIBLE" Failed 502 None,
        "an update server speaks another major version of the protocol",
        "a server that is no WSUS",
        "spsync sync test",
        "check the source's url";
    PlainHttpRefused "PLAIN_HTTP_REFUSED" Refused 403 None,
        "metadata, keys and tokens are neither sent nor taken over plain HTTP",
        "the address of an update server, or of the site as a point or device knows it, begins with http",
        "spsync config show",
        "use https; on a network that you trust set [sync] allow_plain_http, or [server] allow_plain_enrolment at the site and allow_plain_key of [dp] or [client] on the other machine";
    RevisionQuarantined "REVISION_QUARANTINED" Partly 502 None,
        "revisions could not be fetched or read, and are set aside",
        "an upstream that cannot give one of its own revisions, or gives a damaged one",
        "spsync sync show RUN",
        "nothing; each run tries them again, and everything else is recorded";
    RevisionContradicts "REVISION_CONTRADICTS" Partly 502 None,
        "an upstream gives other bytes for a revision that is recorded",
        "a lying or restored upstream: a revision never changes",
        "spsync updates show ID",
        "check the source; the recorded document stays";
    NoCatalog "NO_CATALOG" Refused 409 None,
        "there is nothing to synchronise from",
        "no [[source]] is configured",
        "spsync config show",
        "add a [[source]] to the configuration";
    LicenseNotAccepted "LICENSE_NOT_ACCEPTED" Refused 409 None,
        "the licence terms of this update are not accepted",
        "nobody has accepted them yet",
        "spsync license list --pending",
        "`spsync license review ID`, then `spsync license accept ID`";
    LicenseDeclined "LICENSE_DECLINED" Refused 409 None,
        "the licence terms of this update were declined",
        "somebody declined them",
        "spsync license list",
        "`spsync license accept ID` if the decision has changed";
    LicenseReviewRequired "LICENSE_REVIEW_REQUIRED" Refused 409 None,
        "the licence text was not reviewed",
        "accepting needs a text that was shown",
        "spsync license review ID",
        "`spsync license review ID`, then accept";
    LicenseTextUnavailable "LICENSE_TEXT_UNAVAILABLE" Refused 409 None,
        "there is no licence text to accept",
        "the catalog's link could not be fetched",
        "spsync license review ID",
        "`spsync license review ID --text FILE` with the text from Microsoft";
    LicenseTextInvalid "LICENSE_TEXT_INVALID" Refused 422 None,
        "this is no licence text",
        "the file is empty, too large, or not RTF or plain text",
        "file FILE",
        "give the RTF or text file of the terms, at most 4 MiB";
    NoLicenseTerms "NO_LICENSE_TERMS" Refused 409 None,
        "this update has no licence terms to accept",
        "only Windows 11 asks for acceptance",
        "spsync license list",
        "nothing to do: the update is not held back by a licence";
    NameRequired "NAME_REQUIRED" Refused 422 None,
        "a name is missing",
        "-",
        "-",
        "give a name";
    NameTooLong "NAME_TOO_LONG" Refused 422 None,
        "a name is too long",
        "deployment packages have at most 50 characters",
        "-",
        "use a shorter name";
    NameInUse "NAME_IN_USE" Conflict 409 None,
        "something of this name exists",
        "-",
        "spsync package list",
        "use another name";
    NameNotAllowed "NAME_NOT_ALLOWED" Refused 422 None,
        "a name cannot be used",
        "a path, a reserved name, control characters",
        "-",
        "use a plain name";
    DescriptionTooLong "DESCRIPTION_TOO_LONG" Refused 422 None,
        "a description is too long",
        "deployment packages have at most 127 characters",
        "-",
        "use a shorter description";
    SourceInUse "SOURCE_IN_USE" Conflict 409 None,
        "another deployment package uses this source folder",
        "-",
        "spsync package list -o wide",
        "use another folder";
    SourceMissing "SOURCE_MISSING" Refused 422 None,
        "the source folder does not exist",
        "a misspelt path, or it was not mounted",
        "ls -ld on the folder",
        "create the folder first";
    SourceNotWritable "SOURCE_NOT_WRITABLE" Refused 403 Some("0x80070005"),
        "the source folder cannot be written",
        "spsync runs as another user",
        "ls -ld on the folder; id",
        "give the user of spsync the right to write there";
    LanguageNotAvailable "LANGUAGE_NOT_AVAILABLE" Refused 422 None,
        "no such update is published in this language",
        "-",
        "spsync updates list --all",
        "choose a language from the list";
    LanguageRequired "LANGUAGE_REQUIRED" Refused 422 None,
        "no language is chosen",
        "[sync] languages is empty and --lang was not given",
        "spsync config show",
        "give `--lang`, or set [sync] languages";
    NotDeployable "NOT_DEPLOYABLE" Refused 409 None,
        "this update cannot be deployed",
        "see the reasons given",
        "spsync updates show ID",
        "see the reasons given";
    UpdateExpired "UPDATE_EXPIRED" Refused 409 None,
        "this update is expired",
        "its publisher has withdrawn it, or another update replaced it longer ago than [sync] supersedence_months",
        "spsync updates show ID; spsync updates supersedence plan",
        "use the update that replaces it, or keep this one with `spsync updates hold ID`";
    UpdateIncomplete "UPDATE_INCOMPLETE" Refused 409 None,
        "parts of this update, or digests of its files, are not known yet",
        "its upstream has not given the documents of its parts",
        "spsync updates show ID; spsync sync show RUN",
        "`spsync now`: each run asks for what is missing";
    UpdateEncrypted "UPDATE_ENCRYPTED" Refused 409 None,
        "the file of this update is encrypted",
        "Windows 10 1607 was published with a key that only Microsoft's tool can use",
        "spsync updates show ID",
        "choose a later release; name the update by its id to download it all the same";
    ConflictingOptions "CONFLICTING_OPTIONS" Refused 422 None,
        "options contradict each other",
        "-",
        "run the command with --help",
        "leave one of them out";
    PackageIncomplete "PACKAGE_INCOMPLETE" Refused 409 None,
        "the package has files that are not downloaded",
        "a download failed or was never run",
        "spsync package show P",
        "`spsync package download P`";
    PackageEmpty "PACKAGE_EMPTY" Refused 409 None,
        "the package has no updates",
        "-",
        "spsync package show P",
        "`spsync package add P UPDATE`";
    PackageDistributed "PACKAGE_DISTRIBUTED" Conflict 409 None,
        "the package is on distribution points",
        "-",
        "spsync package show P",
        "`spsync package withdraw P` first, or delete with `--yes`";
    PackageDeployed "PACKAGE_DEPLOYED" Conflict 409 None,
        "deployments tell devices that this package has their content",
        "-",
        "spsync deploy list",
        "stop the deployments named above first";
    PackageBusy "PACKAGE_BUSY" Conflict 409 None,
        "a task works on this package",
        "it is being downloaded or validated",
        "spsync task list",
        "wait for the task with `spsync task wait ID`, or `spsync task cancel ID`";
    PackagePartlyDone "PACKAGE_PARTLY_DONE" Partly 502 None,
        "some files of the package failed",
        "see the files listed",
        "spsync package show P",
        "mend the cause, then run the same command again: the rest is kept";
    ValidationFailed "VALIDATION_FAILED" Mismatch 500 None,
        "content differs from its digest",
        "a failing disk, or somebody changed the files",
        "spsync package validate P",
        "`spsync package download P`, which fetches only what is missing";
    DpDiskFull "DP_DISK_FULL" Refused 507 Some("0x80070070"),
        "the distribution point has not enough space",
        "-",
        "spsync dp list",
        "free space there, then the same command again";
    ServeNotHere "SERVE_NOT_HERE" NotFound 404 None,
        "a request names nothing that this point was given",
        "the package was not distributed here, or was withdrawn; or the address is not one of ours",
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
        "it is large, the way to its source is slow, the hashes of its pieces are not known, or nothing may be fetched now",
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
        "an operator revoked it, or another token was used for this name since",
        "spsync key list",
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
        "wait a minute; mend the key first";
    NotOnAPoint "NOT_ON_A_POINT" Refused 409 None,
        "this machine is a distribution point, and its site decides",
        "[dp] role is standard or pull",
        "spsync status",
        "run the command at the site";
    NotAtSite "NOT_AT_SITE" Refused 409 None,
        "this is asked of a site, and this machine is a device of one elsewhere",
        "[client] site names another machine, and no site was ever opened here",
        "spsync config show",
        "run the command at the site; what this device did says `spsync client log`";
    TlsNotSetUp "TLS_NOT_SET_UP" Refused 409 None,
        "there is no certificate",
        "neither [tls] cert_file is set nor `spsync tls init` was run",
        "spsync tls show",
        "`spsync tls init`";
    TlsInvalid "TLS_INVALID" Config 422 None,
        "the certificate or its key cannot be used",
        "no PEM, a key of another certificate, or a file that others may read",
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
    ClientNoSite "CLIENT_NO_SITE" Refused 409 None,
        "the client knows no site",
        "[client] site is empty and no site runs on this machine",
        "spsync config show",
        "set `[client] site = \"https://SITE:8531\"`";
    DeviceKeyMissing "DEVICE_KEY_MISSING" Refused 409 None,
        "this device has no key, so the site does not believe what it says",
        "it never enrolled, or [client] key_file cannot be read",
        "spsync config show",
        "enrol the device with `spsync client enrol`";
    SiteAnswerInvalid "SITE_ANSWER_INVALID" Failed 502 None,
        "the site's answer cannot be understood",
        "another program listens at that address, or another version",
        "curl on the address named",
        "check `[client] site`";
    ApiRouteUnknown "API_ROUTE_UNKNOWN" NotFound 404 None,
        "the admin API has no such route",
        "a misspelt path, or a route of another version",
        "docs/PROTOCOL.md lists the routes",
        "use a route of the list";
    ApiMethodNotAllowed "API_METHOD_NOT_ALLOWED" Usage 405 None,
        "the admin API has this route, but not for this method",
        "-",
        "the field `Allow` of the answer",
        "use a method that the route has";
    ApiTokenRefused "API_TOKEN_REFUSED" NotPermitted 401 Some("0x80070005"),
        "the admin API does not accept this token",
        "there is none in the request, it is over or was revoked, or it is another site's",
        "spsync token list",
        "make one at the site with `spsync token create NAME`, and send it as `Authorization: Bearer`";
    ApiOriginRefused "API_ORIGIN_REFUSED" NotPermitted 403 None,
        "the admin API does not answer to this name, or to web pages of other origins",
        "the field `Host` names what is no name of the site, or a browser sent a request for another site's page",
        "spsync tls show",
        "ask by address, by `localhost`, or by a name that is in the site's certificate";
    ApiMediaType "API_MEDIA_TYPE" Usage 415 None,
        "the admin API takes JSON only",
        "the field `Content-Type` is missing or says something else",
        "-",
        "send `Content-Type: application/json`";
    ApiTooLarge "API_TOO_LARGE" Usage 413 None,
        "the body of a request is larger than the admin API takes",
        "-",
        "-",
        "send less than 16 MiB; larger files go into the folder `exchange` of the data directory";
    ApiPreconditionRequired "API_PRECONDITION_REQUIRED" Refused 428 None,
        "this change needs `If-Match`, so that nobody's work is lost",
        "-",
        "the field `ETag` of the answer to GET",
        "read it, and send its `ETag` as `If-Match`";
    ApiPreconditionFailed "API_PRECONDITION_FAILED" Conflict 412 None,
        "it was changed since it was read",
        "somebody else changed it",
        "-",
        "read it again, and repeat the change";
    ApiBusy "API_BUSY" Refused 503 None,
        "the admin API has as much to do as it does at once",
        "many requests at once, or many changes while `If-Match` was looked at",
        "spsync task list",
        "repeat the request after the seconds of `Retry-After`: nothing was done";
    ApiTooMany "API_TOO_MANY" Refused 429 None,
        "this token has as many requests or event streams at once as one may have",
        "a script that asks for many things at once, or leaves streams open",
        "-",
        "end some of them, or repeat the request after the seconds of `Retry-After`: nothing was done";
    ApiKeyInUse "API_KEY_IN_USE" Conflict 409 None,
        "this `Idempotency-Key` stands for another request, or for one that is still worked on",
        "a key that was used twice, or a request that was repeated too soon",
        "-",
        "repeat the same request later, or use a new key for another one";
    ListenFailed "LISTEN_FAILED" Failed 500 None,
        "an address cannot be listened on",
        "another program has the port, or the address is not this machine's",
        "ss -ltnp",
        "free the port, or set [server] listen";
    DemoFailed "DEMO_FAILED" Failed 500 None,
        "the demonstration did not end as it should",
        "-",
        "run it again with -v",
        "report it with the output of `spsync demo -v`";
    PolicyInvalid "POLICY_INVALID" Failed 422 None,
        "what the site told a device cannot be used",
        "a site of a newer release, or an answer that was damaged on its way",
        "-",
        "bring the device and its site to the same release";
    StatusInvalid "STATUS_INVALID" Refused 422 None,
        "what a device reported cannot be taken down",
        "a client of another make or a much newer release",
        "-",
        "bring the device and its site to the same release";
    ClientBusy "CLIENT_BUSY" Conflict 409 None,
        "another client works with this folder",
        "a second `client run`, or one that still ends",
        "-",
        "wait for the other one, or give this one a folder of its own with `--state-dir`";
    ClientStateDamaged "CLIENT_STATE_DAMAGED" Failed 500 None,
        "what the client remembers of its runs cannot be read",
        "a disk that lost data, or a newer release that wrote it",
        "-",
        "repair the disk; without the file the client begins anew, and may run again what it ran before";
    SimulationInvalid "SIMULATION_INVALID" Config 422 None,
        "the file that describes a simulated device cannot be used",
        "an unknown key, a value of another type, or the file is not there",
        "spsync client facts --example --simulate",
        "correct what is named; `spsync client facts --example --simulate` prints a whole file";
    FactsInvalid "FACTS_INVALID" Config 422 None,
        "the file that says what a device is cannot be used",
        "an unknown key, a word that is none of those known, or the file is not there",
        "spsync client facts --example",
        "correct what is named; `spsync client facts --example` prints a whole file";
    InternetNotAllowed "INTERNET_NOT_ALLOWED" Refused 409 None,
        "the device is on the internet, where this deployment is not offered",
        "a deployment that was made for the own networks only",
        "-",
        "allow internet clients when deploying, or bring the device into the own network";
    DeploymentExpired "DEPLOYMENT_EXPIRED" Refused 409 None,
        "the time of the deployment is over",
        "a device that was away for long",
        "-",
        "deploy again, with a later end";
    NoWindow "NO_MAINTENANCE_WINDOW" Refused 409 None,
        "no maintenance window is as long as the task sequence may take",
        "`max_runtime` is longer than every window",
        "-",
        "make a longer window, or let the deployment run outside of them";
    NoFeatureUpdateApplies "NO_FEATURE_UPDATE_APPLIES" Refused 409 Some("0xC1900200"),
        "no feature update or image of the step fits the device",
        "another language, architecture or edition; a build that the device has already",
        "spsync updates list",
        "add what fits the device to the step";
    StepFailed "STEP_FAILED" Failed 500 None,
        "a step ended with an exit code that does not mean success",
        "the program of the step",
        "spsync client log",
        "see the exit code and the end of the output in the log of the device";
    StepTimedOut "STEP_TIMED_OUT" Failed 504 None,
        "a step took longer than it may, and was ended with all that it had started",
        "a program that waits for somebody",
        "spsync client log",
        "give the step more minutes, or make its program run unattended";
    StepInterrupted "STEP_INTERRUPTED" Failed 500 None,
        "the device lost power or the client was ended while the step ran, and nobody knows whether it did its work",
        "a power cut, a crash, somebody who switched it off",
        "spsync client log",
        "look at the device; a command that may be run twice can be given `retries`";
    RunTimedOut "RUN_TIMED_OUT" Failed 504 None,
        "the task sequence took longer than it may",
        "a step without a time-out of its own",
        "spsync client log",
        "set `max_runtime`, and time-outs of steps";
    RestartLoop "RESTART_LOOP" Failed 500 None,
        "the device was interrupted again and again without getting any further",
        "a step that restarts the device by itself, or a device that crashes",
        "spsync client log",
        "look at the step that the log names last";
    RestartFailed "RESTART_FAILED" Failed 500 None,
        "the device was asked to restart, and did not",
        "a program that keeps it from doing so",
        "spsync client log",
        "restart it by hand";
    ReadinessFailed "READINESS_FAILED" Refused 409 Some("4316"),
        "the device is not ready for the upgrade",
        "too little memory or disk, no mains power, another Windows than expected",
        "spsync client log",
        "mend what is named, then run the deployment again";
    SetupBlocked "SETUP_BLOCKED" Failed 409 Some("0xC1900208"),
        "Setup found an application or driver that blocks the upgrade",
        "incompatible software",
        "spsync client log",
        "remove or update what Setup names in its compatibility report";
    SetupChoiceUnavailable "SETUP_CHOICE_UNAVAILABLE" Failed 409 Some("0xC1900204"),
        "Setup cannot keep what the step wants to keep",
        "another edition, architecture or language than the device has",
        "spsync updates list",
        "deploy what fits the device";
    SetupNotEligible "SETUP_NOT_ELIGIBLE" Failed 409 Some("0xC1900200"),
        "the device is not eligible for the upgrade",
        "hardware that the target does not support",
        "spsync client log",
        "see the requirements of the target";
    SetupDiskSpace "SETUP_DISK_SPACE" Failed 507 Some("0xC190020E"),
        "Setup found too little space on the disk",
        "20 GiB or more are needed",
        "spsync client log",
        "make room, then run the deployment again";
    SetupRolledBack "SETUP_ROLLED_BACK" Failed 500 Some("0xC1900101"),
        "Setup failed and put the old Windows back",
        "a driver, mostly",
        "spsync client log",
        "see Setup's own logs on the device ($WINDOWS.~BT\\Sources\\Rollback)";
    SetupFailed "SETUP_FAILED" Failed 500 None,
        "Setup did not upgrade the device",
        "see its exit code",
        "spsync client log",
        "see Setup's own logs on the device";
    SetupWaitingForUser "SETUP_WAITING_FOR_USER" Failed 504 None,
        "Setup waited for somebody to confirm a compatibility message until its time was over",
        "an upgrade to Windows Server 2016 or later without ignoring dismissable messages",
        "spsync ts lint",
        "set `ignore_dismissable` in the step";
    SetupMediaMissing "SETUP_MEDIA_MISSING" Failed 422 None,
        "there is no Setup in what the step upgrades from",
        "an image without setup media, such as a bare install.wim",
        "spsync image inspect",
        "use an ESD or a WIM with setup media, or a folder with Setup";
    SetupFormUnsupported "SETUP_FORM_UNSUPPORTED" Refused 501 None,
        "a feature update of this form cannot be installed by this client",
        "a file set, which only Windows' own update agent can put together",
        "spsync updates list",
        "use an ESD or an enablement package";
    SecretMissing "SECRET_MISSING" Refused 409 None,
        "a step needs a secret that the device was not given",
        "the site has none at this place, or could not be asked",
        "spsync ts show",
        "give the secret again with `spsync ts step set`";
    ToolMissing "TOOL_MISSING" Failed 501 None,
        "a program that the client needs is not there",
        "wimlib-imagex on Linux, DISM on Windows",
        "-",
        "install it";
    TaskSequenceNotFound "TASK_SEQUENCE_NOT_FOUND" NotFound 404 None,
        "no task sequence has this id or name",
        "a misspelt name, or it was deleted",
        "spsync ts list",
        "use a name or id from `spsync ts list`";
    TaskSequenceInvalid "TASK_SEQUENCE_INVALID" Refused 422 None,
        "the task sequence has a setting that cannot be used",
        "a misspelt setting, a value of another type, too many or too deeply nested steps",
        "spsync ts show TS --tree",
        "correct the step named above";
    TaskSequenceTooLarge "TASK_SEQUENCE_TOO_LARGE" Refused 413 None,
        "the task sequence has more than 2 MiB as a document",
        "scripts written into steps",
        "spsync ts show TS --tree",
        "move long scripts into packages";
    TaskSequenceChanged "TASK_SEQUENCE_CHANGED" Conflict 409 None,
        "somebody else changed the task sequence since it was read",
        "two people edit it at the same time",
        "spsync ts show TS --tree",
        "look at it again, then repeat the command";
    StepNotFound "STEP_NOT_FOUND" NotFound 404 None,
        "the task sequence has no such step",
        "a misspelt name, or the numbers changed since they were read",
        "spsync ts show TS --tree",
        "use a number or name from `spsync ts show TS --tree`";
    StepTypeUnknown "STEP_TYPE_UNKNOWN" Refused 409 None,
        "a step has a type that this release does not know",
        "the task sequence comes from a newer release or another product",
        "spsync ts show TS --tree",
        "remove or disable the step; it is kept and shown until then, and the task sequence is not deployable";
    UnknownTemplate "UNKNOWN_TEMPLATE" Usage 422 None,
        "no task sequence can be made from this template",
        "a misspelt name",
        "spsync ts create --list-types",
        "leave the name out for an empty task sequence, or use `--upgrade`";
    BrokenReference "BROKEN_REFERENCE" Refused 409 None,
        "a step refers to something that is not there",
        "it was deleted or retired, or the step came from an import without its feature update",
        "spsync ts refs TS",
        "fix, remove or disable the step named above";
    UpgradeSourceInvalid "UPGRADE_SOURCE_INVALID" Refused 422 None,
        "an Upgrade Operating System step needs either feature updates or an OS upgrade package, not both",
        "neither or both were given",
        "spsync ts create --choices",
        "give `--feature-update` or `--image`";
    UpgradePathUnsupported "UPGRADE_PATH_UNSUPPORTED" Refused 422 Some("0xC1900200"),
        "this operating system cannot be upgraded to that one",
        "Windows before 7 or Windows Server before 2012, a target before 10 or Server 2016, or a client that would become a server",
        "spsync ts plan TS --facts FILE",
        "install the operating system anew, or choose another target";
    FeatureNotInRelease "FEATURE_NOT_IN_RELEASE" Refused 409 None,
        "the release of this site does not have this feature",
        "[site] release is older than the feature",
        "spsync config show",
        "raise `[site] release`";
    OsUpgradePackageRequired "OS_UPGRADE_PACKAGE_REQUIRED" Refused 409 None,
        "release 2103 needs an OS upgrade package to make a task sequence",
        "[site] release is older than 2107",
        "spsync config show; spsync image list",
        "raise `[site] release` to 2107, or create it with `--image` and then set the step to the feature update";
    OsUpgradePackageNotFound "OS_UPGRADE_PACKAGE_NOT_FOUND" NotFound 404 None,
        "no OS upgrade package has this id or name",
        "a misspelt name, or it was deleted",
        "spsync image list",
        "use a name or id from `spsync image list`";
    PrerequisiteMissing "PREREQUISITE_MISSING" Refused 409 None,
        "something that this needs was never added to the site",
        "the site has no OS upgrade package at all",
        "spsync image list",
        "add one with `spsync image add PATH --name N`, or use a feature update";
    EditionIndexInvalid "EDITION_INDEX_INVALID" Refused 422 None,
        "the OS upgrade package has no edition with this index",
        "the index belongs to another package, or to Setup's own images",
        "spsync image show I",
        "use an index from `spsync image show I`";
    ImageInUse "IMAGE_IN_USE" Conflict 409 None,
        "a task sequence refers to this OS upgrade package",
        "-",
        "spsync ts list",
        "change or delete the task sequences named above first";
    ApplicationNotFound "APPLICATION_NOT_FOUND" Refused 422 None,
        "no application has this id or name",
        "a misspelt name, or it was never added",
        "spsync app list",
        "add it with `spsync app add FILE.toml`";
    ApplicationDisabled "APPLICATION_DISABLED" Refused 422 None,
        "the application is disabled or retired",
        "`spsync app retire`, or `enabled = false` in its form",
        "spsync app show A",
        "use another application, or add a newer version";
    ApplicationInvalid "APPLICATION_INVALID" Refused 422 None,
        "the form of the application cannot be used",
        "a misspelt setting, an empty command, content that is not there",
        "the file named above",
        "correct the form";
    ProductKeyFormat "PRODUCT_KEY_FORMAT" Refused 422 None,
        "the product key is not five groups of five letters or digits with dashes",
        "a dash is missing, a group is too short, or it is an encoded volume key",
        "-",
        "write it as XXXXX-XXXXX-XXXXX-XXXXX-XXXXX, or say `--encoded-key`; it is never printed";
    SecretKeyUnusable "SECRET_KEY_UNUSABLE" Failed 500 None,
        "product keys and hidden values cannot be opened or sealed",
        "the key file in the data directory is gone, damaged, readable by others, or of another site",
        "ls -l on the file named",
        "restore `secrets.key` beside the database with mode 0600, or enter the secrets again";
    ChoiceRequired "CHOICE_REQUIRED" Refused 422 None,
        "more than one application: say whether to go on when one fails",
        "-",
        "the options of `ts create`",
        "give `--continue-on-app-error yes` or `--continue-on-app-error no`";
    NotAFeatureUpdate "NOT_A_FEATURE_UPDATE" Refused 422 None,
        "only feature updates can upgrade an operating system",
        "the update has another classification than Upgrades",
        "spsync updates list --all",
        "use an id from `spsync updates list`";
    CompatIgnoreRecommended "COMPAT_IGNORE_RECOMMENDED" Refused 422 None,
        "Setup will wait for a confirmation that nobody gives: the target is Windows Server 2016 or later",
        "dismissable compatibility messages are not ignored",
        "spsync ts lint TS",
        "set `ignore_dismissable=true` on the Upgrade Operating System step";
    CompatIgnoreRequired "COMPAT_IGNORE_REQUIRED" Refused 422 None,
        "an upgrade to Windows Server 2016 or later needs dismissable compatibility messages ignored",
        "`--strict` was given and the setting is off",
        "spsync ts lint TS",
        "add `--ignore-dismissable`";
    RestartAfterUpgradeMissing "RESTART_AFTER_UPGRADE_MISSING" Refused 422 None,
        "no restart follows the upgrade",
        "a custom task sequence with an Upgrade Operating System step alone",
        "spsync ts show TS --tree",
        "add a Restart Computer step after it";
    RestartTargetWrong "RESTART_TARGET_WRONG" Refused 422 None,
        "the restart after an upgrade starts Windows PE instead of the installed operating system",
        "the target of the Restart Computer step is the boot image",
        "spsync ts show TS --tree",
        "set `target=installed-os` on the step";
    BootImageMissing "BOOT_IMAGE_MISSING" Refused 422 None,
        "the task sequence has no boot image",
        "a restart into the boot image, or stand-alone media, needs one; or the one it names is not there, after an import for one",
        "spsync ts show TS",
        "restart into the installed operating system instead, or name a boot image";
    DriverContentWithFeatureUpdate "DRIVER_CONTENT_WITH_FEATURE_UPDATE" Refused 422 None,
        "driver content cannot be combined with a feature update",
        "the step has both",
        "spsync ts show TS --tree",
        "clear `drivers` on the step";
    NoPowerCheck "TS_NO_POWER_CHECK" Refused 422 None,
        "nothing checks whether the device runs on battery",
        "Check Readiness does not ask for mains power",
        "spsync ts show TS --tree",
        "set `ac_power=true` on the Check Readiness step";
    NoSyncYet "NO_SYNC_YET" Refused 409 None,
        "software updates are to be installed, and the site has never synchronised",
        "-",
        "spsync sync history",
        "run `spsync now`";
    PredownloadHasNoEffect "PREDOWNLOAD_HAS_NO_EFFECT" Refused 422 None,
        "there is nothing to download before the run",
        "feature updates are never downloaded before the run, and the task sequence has no other content",
        "spsync ts refs TS --pre-download",
        "leave the option out";
    RunFromDpFeatureUpdate "RUN_FROM_DP_FEATURE_UPDATE" Refused 422 None,
        "a feature update cannot be run from a distribution point",
        "Windows Setup needs the file on the device, checked",
        "spsync ts refs TS",
        "let devices download the content";
    PrestageFeatureUpdate "PRESTAGE_FEATURE_UPDATE" Refused 409 None,
        "no prestaged file can be made of a task sequence with a feature update",
        "-",
        "spsync ts refs TS",
        "prestage the deployment package that holds the feature update";
    MediaFeatureUpdate "MEDIA_FEATURE_UPDATE" Refused 409 Some("0x80070490"),
        "stand-alone media is not supported for a task sequence with a feature update",
        "-",
        "spsync ts refs TS; CreateTSMedia.log in the staging folder",
        "use an OS upgrade package in the task sequence";
    MediaUnsupportedStep "MEDIA_UNSUPPORTED_STEP" Refused 422 None,
        "a step cannot run from stand-alone media",
        "it downloads content or installs software updates",
        "spsync ts show TS --tree",
        "remove or disable the step named above";
    MediaFileTooLarge "MEDIA_FILE_TOO_LARGE" Refused 422 None,
        "a file is too large for the file system of the media",
        "FAT32 holds no file of 4 GiB or more",
        "spsync ts refs TS",
        "use media with exFAT or NTFS and leave `--usb` out, or split the image";
    CarriedTooMuch "CARRIED_TOO_MUCH" Refused 422 None,
        "more files than go by hand together",
        "an application of very many files: stand-alone media and prestaged files name 20,000 files in lists of 4 MiB at most",
        "spsync app show A",
        "put its many files into one archive, or carry its parts one by one";
    MediaStagingBusy "MEDIA_STAGING_BUSY" Conflict 409 None,
        "another creation of media works in this staging folder",
        "-",
        "spsync task list",
        "wait until it ends, or choose another folder";
    MediaDamaged "MEDIA_DAMAGED" Mismatch 422 None,
        "stand-alone media is not what it should be",
        "a bad copy, a failing stick, or somebody changed it",
        "spsync media verify DIR; sha256sum -c SHA256SUMS",
        "copy it again, or make it again with `spsync media create`";
    TargetExists "TARGET_EXISTS" Conflict 409 None,
        "what is to be written is there already",
        "it was made before",
        "ls on the path named",
        "remove it, or choose another place";
    PrestageMalformed "PRESTAGE_MALFORMED" Refused 422 None,
        "this is no prestaged file, or a damaged or hostile one",
        "another program made it, it was cut short, or it was tampered with",
        "spsync prestage show FILE",
        "copy it again, or make it again; nothing of it was taken in";
    PrestageNotAssigned "PRESTAGE_NOT_ASSIGNED" Refused 409 None,
        "nothing in the prestaged file is for this distribution point",
        "its site has not sent the package here, or has withdrawn it",
        "spsync prestage show FILE; spsync status",
        "at the site `spsync package distribute`, with a schedule that is closed if nothing shall come over the line; then again";
    NotAPoint "NOT_A_POINT" Refused 409 None,
        "this machine is no distribution point of another site",
        "the command belongs to a machine with [dp] role other than site",
        "spsync config show",
        "run it on the distribution point";
    ExportName "EXPORT_NAME" Refused 422 None,
        "an export has a name that ends in .zip",
        "-",
        "-",
        "give `--to FILE.zip`";
    ExportMalformed "EXPORT_MALFORMED" Refused 422 None,
        "this is no export of task sequences, or a damaged or hostile one",
        "another program made it, it was cut short, or it was tampered with",
        "unzip -l on the file",
        "export it again";
    ImportContentMissing "IMPORT_CONTENT_MISSING" Refused 422 None,
        "the content that belongs to the export is not beside it",
        "the folder NAME_files was not copied together with NAME.zip",
        "ls beside the file named",
        "copy the folder too";
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
        "a misspelt name, or it has never asked this site for anything",
        "spsync client list; spsync key list",
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_and_a_page_that_says_something() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let page = code.page();
            assert!(code.name().bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'));
            assert!(page.meaning.len() > 10 && page.help.len() > 5, "{code}");
            assert!((400..600).contains(&page.http), "{code}");
            assert_eq!(code.name().parse::<Code>().unwrap(), *code);
        }
    }
}
