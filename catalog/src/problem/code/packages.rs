//! Codes about licences and deployment packages.

macro_rules! packages {
    ([$first:ident $($rest:ident)*] $($rows:tt)*) => { $first! { [$($rest)*] $($rows)*
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
        "most names have at most 50 characters, those of boundaries and their groups 100",
        "-",
        "use a shorter name";
    NameInUse "NAME_IN_USE" Conflict 409 None,
        "something of this kind and name exists already",
        "-",
        "the `list` command of the same noun",
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
        "a file or folder does not exist, or cannot be read",
        "a misspelt path, one that was not mounted, or one that the user of spsync does not see: the daemon opens it",
        "ls -ld on it, as the user of spsync",
        "create it first, or copy it to the folder `exchange` of the data directory";
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
        "the package, or the OS upgrade package, is on distribution points",
        "-",
        "spsync content status",
        "`spsync package withdraw P` first, or `spsync image withdraw I` for an OS upgrade package";
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
        "`spsync package validate P --repair` (with `--to DP` for a point) sets bad files aside and fetches them again; the file of an image or application is added again";
    DpDiskFull "DP_DISK_FULL" Refused 507 Some("0x80070070"),
        "the distribution point has not enough space",
        "other packages there, or [download] min_free of its machine",
        "spsync dp show DP; df -h and `spsync status` on its machine",
        "free space there, or take packages off it with `spsync package withdraw P --from DP`; then `spsync package distribute P --to DP`";
    } };
}
