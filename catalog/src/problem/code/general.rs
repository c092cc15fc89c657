//! Codes about commands, configuration, names of things, the selection.

macro_rules! general {
    ([$first:ident $($rest:ident)*] $($rows:tt)*) => { $first! { [$($rest)*] $($rows)*
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
        "a daemon without an admin socket, another command in its own process, or another site of the same [db] path or [content] dir",
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
        "the caller is not in the group that the admin socket belongs to, or the role of its token does not allow this",
        "id; ls -l on the socket; spsync token list",
        "join the group, then log in again; or use a token of a role that may";
    Interrupted "INTERRUPTED" Interrupted 503 None,
        "the work was interrupted",
        "Ctrl-C, a stopped service, a cancelled task",
        "spsync task list",
        "run the same command again: it goes on where it stopped";
    WaitTimeout "WAIT_TIMEOUT" StoppedWaiting 504 None,
        "waiting took longer than --timeout",
        "the work is large, or the source is slow",
        "spsync task list",
        "what a daemon does goes on, `spsync task list` has it; without one the same command goes on where it stopped";
    OfNewerVersion "CODE_OF_NEWER_VERSION" Failed 500 None,
        "another machine of the site said something by a code that this version does not know",
        "it runs a newer version of spsync than this machine",
        "spsync version; the same on the other machine",
        "bring this machine to the same version: the site first, then its points, then devices";
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
    OutputFailed "OUTPUT_FAILED" Failed 500 None,
        "the result could not be written to standard output",
        "the disk that it goes to is full, or failed",
        "df -h where it goes to",
        "make room there and ask again; a token or code that is shown only once is lost: make another";
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
    } };
}
