//! Codes about task sequences, their export, media.

macro_rules! sequences {
    ([$first:ident $($rest:ident)*] $($rows:tt)*) => { $first! { [$($rest)*] $($rows)*
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
        "two people edit it at the same time, or one edits it while another deploys it",
        "spsync ts show TS --tree; spsync deploy list",
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
        "no restart follows the upgrade in every case, or something is installed before it",
        "an Upgrade Operating System step alone, or a restart under a condition, as in the group Rollback",
        "spsync ts show TS --tree",
        "add a Restart Computer step right after it, under no other condition";
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
        "the name of an export must end in `.zip`",
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
    } };
}
