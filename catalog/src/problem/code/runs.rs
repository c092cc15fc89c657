//! Codes about runs of task sequences on devices.

macro_rules! runs {
    ([$first:ident $($rest:ident)*] $($rows:tt)*) => { $first! { [$($rest)*] $($rows)*
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
        "a step needs a secret that the site does not have",
        "the task sequence was imported or migrated, which brings no secrets, or its own was lost",
        "spsync ts lint",
        "give the secret again with `spsync ts step set … --value-file` or `--product-key-file`";
    ToolMissing "TOOL_MISSING" Failed 501 None,
        "a program that the client needs is not there",
        "wimlib-imagex on Linux, DISM on Windows",
        "-",
        "install it";
    } };
}
