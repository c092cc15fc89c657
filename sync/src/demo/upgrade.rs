//! Devices: from a feature update alone to devices that run it, and what the administrator sees of it.

use std::path::{Path, PathBuf};

use catalog::problem::{Code, Problem};
use dp::client::ClientSettings;
use schema::deployments::Purpose;
use schema::keys::PrincipalKind;

use super::{Demo, disk};
use crate::admin::{PointVerb, Request, UpdateFilter};
use crate::authoring::{self, TsRequest};
use crate::clock;
use crate::deploying::choice::Asked;
use crate::deploying::options::Options;
use crate::deploying::status::Status;
use crate::deploying::{self, DeployRequest};
use crate::device::drive::{Device, Line};
use crate::device::executor::simulate::{Script, Simulated};
use crate::device::executor::{Executor as _, Stopped};
use crate::device::journal::Journal;
use crate::device::key;
use crate::device::link::Link;
use crate::device_plane::clients::History;
use crate::fixture::PublishedEsd;
use crate::keys::Secret;
use crate::keys::Token;
use crate::plane::enrol::{self, Place, with_token};
use crate::policy::RunState;
use crate::software::SoftwareRequest;
use crate::updates::{List, Listed};

const SEQUENCE: &str = "Upgrade to 25H2";
const COLLECTION: &str = "ring-1";

/// What both devices are.
const FACTS: &str = "[facts]\nos_type = \"client\"\nversion = \"10.0.22631.4317\"\nedition = \"Enterprise\"\n\
    architecture = \"x64\"\nlanguage = \"en-us\"\nmemory_mb = 16384\nprocessor_mhz = 2400\nfree_disk_mb = 90000\n";

/// A device of the demonstration: how its Setup ends, and how its run is to end.
struct Desk {
    name: &'static str,
    setup: &'static str,
    ends: RunState,
}

const DESKS: [Desk; 2] = [
    Desk { name: "desk-1", setup: "", ends: RunState::Succeeded },
    Desk { name: "desk-2", setup: "[[setup]]\nexit = \"0xC1900208\"\n", ends: RunState::Failed },
];

impl Demo<'_> {
    /// A task sequence from a feature update alone, deployed with a new package, and two devices that run it: the Setup of
    /// the second finds an application that blocks it.
    pub(super) async fn upgrade(&self, esd: &PublishedEsd) -> Result<(), Problem> {
        let update = self.update_of(esd).await?;
        self.task_sequence(&update).await?;
        let deployment = self.deploy().await?;
        for desk in &DESKS {
            let line = self.device(desk).await?;
            let code = line.code.map(|code| format!(" [{code}]")).unwrap_or_default();
            let exit = line.exit.as_ref().map(|exit| format!(" {exit}")).unwrap_or_default();
            self.say(format!("{} {}: {}{code}{exit}", line.deployment, line.name, line.state.word()));
            self.expect(line.state == desk.ends, "each device ends as its Setup does")?;
        }
        self.seen(esd, &deployment).await
    }

    async fn update_of(&self, esd: &PublishedEsd) -> Result<String, Problem> {
        let list: List = self.ask(Request::UpdatesList(UpdateFilter::default())).await?;
        let sha256 = esd.fingerprint.sha256;
        let has =
            |listed: &&Listed| listed.update.files.iter().any(|file| file.digests.sha256 == Some(sha256));
        let listed = list.updates.iter().find(has);
        listed
            .map(|listed| listed.update.id.update.to_string())
            .ok_or_else(|| Problem::new(Code::DemoFailed, "the update is not listed"))
    }

    async fn task_sequence(&self, update: &str) -> Result<(), Problem> {
        self.command(&format!("ts create \"{SEQUENCE}\" --upgrade --feature-update {}", &update[..8]));
        let create = authoring::Create {
            name: SEQUENCE.to_owned(),
            upgrade: true,
            feature_updates: vec![update.to_owned()],
            ..authoring::Create::default()
        };
        let made: authoring::Created = self.ask(Request::Ts(TsRequest::Create(Box::new(create)))).await?;
        self.say(format!(
            "{} steps in {} groups, product key: {}",
            made.steps, made.groups, made.product_key
        ));
        self.command(&format!("ts show \"{SEQUENCE}\" --tree"));
        let show = TsRequest::Show { sequence: SEQUENCE.to_owned() };
        let shown: authoring::Shown = self.ask(Request::Ts(show)).await?;
        let (empty, filled): (Vec<_>, Vec<_>) = shown.tree.iter().partition(|line| line.contains("(empty"));
        filled.into_iter().for_each(|line| self.say(line));
        self.say(format!("({} groups of the template, empty so far, are not shown here)", empty.len()));
        self.expect(shown.deployable, "a feature update is all that it needs")
    }

    async fn deploy(&self) -> Result<String, Problem> {
        self.command(&format!("collection create {COLLECTION}"));
        let create = SoftwareRequest::CollectionCreate { name: COLLECTION.to_owned() };
        let _: serde_json::Value = self.ask(Request::Software(create)).await?;
        let devices: Vec<_> = DESKS.iter().map(|desk| desk.name.to_owned()).collect();
        self.command(&format!("collection add {COLLECTION} {}", devices.join(" ")));
        let add = SoftwareRequest::CollectionChange { name: COLLECTION.to_owned(), devices, add: true };
        let _: serde_json::Value = self.ask(Request::Software(add)).await?;
        self.command(&format!(
            "deploy create \"{SEQUENCE}\" --collection {COLLECTION} --purpose required --deadline now --new-package upgrades --to site"
        ));
        let now = clock::now();
        let create = deploying::Create {
            sequence: SEQUENCE.to_owned(),
            collection: COLLECTION.to_owned(),
            purpose: Purpose::Required,
            available: Some(now),
            deadline: Some(now),
            expires: None,
            options: Options::default(),
            package: Asked {
                new_package: Some("upgrades".to_owned()),
                to: vec!["site".to_owned()],
                ..Asked::default()
            },
            strict: true,
            confirm_high_risk: false,
        };
        let made: deploying::Shown =
            self.ask(Request::Deploy(DeployRequest::Create(Box::new(create)))).await?;
        let id = made.row.id.to_string();
        let package = made.progress.map(|progress| progress.name).unwrap_or_default();
        self.say(format!(
            "{id} to {} devices; downloaded into package {package} and sent to {}",
            made.devices,
            made.row.places.join(", ")
        ));
        made.notes.iter().for_each(|note| self.say(format!("note: {note}")));
        Ok(id)
    }

    /// A device gets its key, hears of the deployment, fetches, verifies, and runs the steps.
    async fn device(&self, desk: &Desk) -> Result<Line, Problem> {
        let folder = self.folder.join(desk.name);
        std::fs::create_dir_all(&folder).map_err(|error| disk("made", &error))?;
        self.command(&format!("key enrol {} > token", desk.name));
        let enrol = PointVerb::Enrol { kind: PrincipalKind::Device, name: desk.name.to_owned() };
        let token: Token = self.ask(Request::Points { act: enrol }).await?;
        self.output.line(format!("{}$ spsync client enrol --token-file token", desk.name));
        let place = Place {
            site: crate::plane::call::base(&self.url)?,
            ca_file: None,
            key_file: folder.join(key::KEY_FILE),
            instance: enrol::instance(&folder.join(key::INSTANCE_FILE))?,
            plain: false,
        };
        let file = folder.join("token");
        crate::keys::write_private(&file, token.token.as_bytes())?;
        with_token(&place, &Secret::of_file(&file)?).await?;
        self.output.line(format!("{}$ spsync client run --simulate device.toml", desk.name));
        std::fs::write(script_of(&folder), format!("{}{FACTS}", desk.setup))
            .map_err(|error| disk("written", &error))?;
        let mut device = self.pretended(&folder)?;
        let policy = device.policy().await?;
        let round = device.round(&policy, &[]).await.map_err(|stopped| match stopped {
            Stopped::Problem(problem) => problem,
            Stopped::Power => Problem::new(Code::DemoFailed, "nobody cut the power"),
        })?;
        device.send().await?;
        self.expect(device.memory().outbox.is_empty(), "every message arrived")?;
        let before = Script::of_file(&script_of(&folder))?.facts.version;
        self.say(format!("runs {before} before, {} after", device.hands.facts().version));
        let line = round.deployments.into_iter().next();
        line.ok_or_else(|| Problem::new(Code::DemoFailed, "the device heard of nothing"))
    }

    fn pretended(&self, folder: &Path) -> Result<Device<Simulated>, Problem> {
        let runs = folder.join("runs");
        let journal = Journal::open(&runs)?;
        let hands = Simulated::new(Script::of_file(&script_of(folder))?, &runs, true, clock::now())?;
        let mut device = Device::open(journal, hands)?;
        let key = key::read(&folder.join(key::KEY_FILE))?;
        let client = self.client(folder.to_owned())?;
        device.client = Some(ClientSettings { key: Some((&key).into()), ..client });
        device.link = Some(Link::new(&self.url, &key, None, false)?);
        Ok(device)
    }

    async fn seen(&self, esd: &PublishedEsd, deployment: &str) -> Result<(), Problem> {
        self.command(&format!("deploy status {deployment}"));
        let ask = DeployRequest::Status { deployment: deployment.to_owned() };
        let status: Status = self.ask(Request::Deploy(ask)).await?;
        for device in &status.devices {
            let why = device.error.as_ref().map(|error| {
                format!(" {error}: {}", device.meaning.as_deref().unwrap_or("of no known meaning"))
            });
            self.say(format!("{}  {}{}", device.device, device.state, why.unwrap_or_default()));
        }
        for (source, bytes) in &status.bytes {
            self.say(format!("{bytes} bytes from {source}"));
        }
        let taken: u64 = status.bytes.values().sum();
        self.expect(
            taken == DESKS.len() as u64 * esd.wanted.size,
            "each device took the feature update once, and said from whom",
        )?;
        self.command(&format!("client history {}", DESKS[0].name));
        let ask = DeployRequest::ClientHistory { device: DESKS[0].name.to_owned(), limit: 100 };
        let history: History = self.ask(Request::Deploy(ask)).await?;
        for one in history.happened.iter().filter(|one| one.step_state.is_some()) {
            let step = one.step_name.as_deref().unwrap_or("-");
            let bytes =
                if one.bytes.is_empty() { String::new() } else { format!(" ({})", one.bytes.join(", ")) };
            self.say(format!("{}  {}{bytes}", one.step_state.as_deref().unwrap_or("-"), step));
        }
        self.expect(!history.happened.is_empty(), "the site knows what happened")
    }
}

/// How a device behaves, in its folder.
fn script_of(folder: &Path) -> PathBuf {
    folder.join("device.toml")
}
