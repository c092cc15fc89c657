//! A device and its site: what is to be run by the policy, what is told, what is fetched ahead. `running` drives one run.

mod care;
mod courier;
mod running;
mod secrets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::client::ClientSettings;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::content::{self, Ahead, Asking, Got, Need, NotGot, Told};
use super::evaluate::{self, Around, Verdict, verdict};
use super::executor::{Executor, Moment, Stopped};
use super::journal::{Current, Journal, Memory, POLICY};
use super::link::{Link, NoAnswer};
use super::log::Log;
use super::machine::{Failure, Frame, Progress, Said};
use super::pause::Away;
use super::plan::Plan;
use super::scripts;
use super::variables::Masker;
use crate::policy::{
    Assignment, BytesFrom, DeploymentId, FactsReport, Origin, Policy, Purpose, Rerun, RunState, Secrets,
};
use crate::sequence::action::Sealed;
use crate::sequence::key::HiddenText;

/// Time in which nobody counted, after which no more of it counts: the clock may have been set.
const LONGEST_GAP: Duration = Duration::from_secs(1_800);

/// A device that runs task sequences.
pub struct Device<E> {
    /// Who carries things out.
    pub hands: E,
    journal: Journal,
    memory: Memory,
    log: Log,
    /// The site, where there is one.
    pub link: Option<Link>,
    /// From whom content is fetched.
    pub client: Option<ClientSettings>,
    /// Content on stand-alone media: it is used from there, verified as all other.
    pub media: BTreeMap<Sha256Digest, PathBuf>,
    /// How the site was found when it was asked for the policy last.
    pub away: Away,
    /// Secrets from a file, each with its place, for runs without a site.
    pub own_secrets: Option<Vec<(Sealed, HiddenText)>>,
    secrets: Option<Secrets>,
    /// How often in a row secrets were asked for in vain.
    vain: Away,
    /// The start of the device in which it was said that scripts stay.
    warned: Option<String>,
    /// How far apart messages of a run are brought to the site.
    telling: Duration,
    /// What its settings say of `delta_content`.
    delta: bool,
    program: PathBuf,
}

/// What became of one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The task sequence.
    pub name: String,
    /// The number of its run, if there was one.
    pub run: Option<u64>,
    /// How it stands.
    pub state: RunState,
    /// Why, where it does not succeed.
    pub code: Option<Code>,
    /// The exit code of what failed.
    pub exit: Option<String>,
    /// For people.
    pub details: String,
    /// When to look again.
    pub next: Option<Timestamp>,
}

impl Line {
    /// One that has not begun, and of which nothing else is said yet.
    fn waiting(assignment: &Assignment) -> Self {
        Self {
            deployment: assignment.deployment.clone(),
            name: assignment.name.clone(),
            run: None,
            state: RunState::Waiting,
            code: None,
            exit: None,
            details: String::new(),
            next: None,
        }
    }
}

/// What one look at a policy came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Each deployment.
    pub deployments: Vec<Line>,
    /// Deployments among them that were run before, and did nothing now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<DeploymentId>,
    /// Deployments that do not begin before the site gives their secrets: whoever wanted one still does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<DeploymentId>,
    /// The device goes down; the next start goes on.
    pub restarting: bool,
    /// Messages that the site does not have yet.
    pub unsent: usize,
}

/// Whether a site does not want to have to do with this device, rather than being away.
fn is_refusal(problem: &Problem) -> bool {
    matches!(problem.code, Code::KeyRefused | Code::KeyRevoked | Code::PlainHttpRefused)
}

fn after(now: Timestamp, wait: Duration) -> Option<Timestamp> {
    now.checked_add(SignedDuration::try_from(wait).ok()?).ok()
}

/// How driving a run stopped.
enum Driven {
    Ended(Line),
    GoingDown,
}

impl<E: Executor> Device<E> {
    /// The device whose memory is in this folder.
    ///
    /// # Errors
    /// `CLIENT_BUSY`, `CLIENT_STATE_DAMAGED`, `DATA_DIR_NOT_WRITABLE`.
    pub fn open(journal: Journal, hands: E) -> Result<Self, Problem> {
        let memory = journal.load()?;
        let log = Log::open(journal.folder());
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("spsync"));
        let (link, client, own_secrets, secrets) = (None, None, None, None);
        let media = BTreeMap::new();
        Ok(Self {
            hands,
            journal,
            memory,
            log,
            link,
            client,
            media,
            away: Away::default(),
            own_secrets,
            secrets,
            vain: Away::default(),
            warned: None,
            telling: courier::PERIOD,
            delta: false,
            program,
        })
    }

    /// What is remembered.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// After a power cut: only what was written down is still known.
    ///
    /// # Errors
    /// `CLIENT_STATE_DAMAGED`.
    pub fn come_back(&mut self) -> Result<(), Problem> {
        self.memory = self.journal.load()?;
        self.secrets = None;
        Ok(())
    }

    fn write(&mut self, component: &str, about: &str, text: &str) {
        self.log.line(self.hands.now(), component, about, text);
    }

    fn save(&self) -> Result<(), Problem> {
        self.journal.save(&self.memory)
    }

    /// The policy of the site, or the one that was kept where the site is away. Where the site refuses, what was kept holds
    /// no more.
    ///
    /// # Errors
    /// `CLIENT_NO_SITE` where there is neither; why the site refuses; `CLIENT_STATE_DAMAGED`.
    pub async fn policy(&mut self) -> Result<Policy, Problem> {
        let kept: Option<(Policy, Option<String>)> = self.journal.read(POLICY)?;
        let Some(link) = self.link.clone() else {
            return kept.map(|(policy, _)| policy).ok_or_else(|| {
                Problem::new(Code::ClientNoSite, "neither a site nor a policy is given")
                    .help("use --site or --policy")
            });
        };
        self.tell_facts(&link).await;
        let tag = kept.as_ref().and_then(|(_, tag)| tag.clone());
        let asked = link.policy(tag.as_deref()).await;
        if !matches!(asked, Err(NoAnswer::Away { .. })) {
            self.away = Away::default();
        }
        match asked {
            Ok(Some((policy, tag))) => {
                let text = format!("policy {} with {} deployments", policy.version, policy.assignments.len());
                self.write("PolicyAgent", "", &text);
                self.journal.write(POLICY, &(&policy, tag))?;
                Ok(policy)
            }
            Ok(None) => kept
                .map(|(policy, _)| policy)
                .ok_or_else(|| Problem::new(Code::SiteAnswerInvalid, "304 to no policy")),
            Err(NoAnswer::Refused(problem)) => {
                self.write("PolicyAgent", "", &format!("the site refuses this device: {problem}"));
                // Nothing is begun any more, neither now nor when the site is away. What has begun goes on: half an upgrade is
                // worse than a whole one.
                let Some((policy, _)) = kept else { return Err(problem) };
                let empty = Policy { assignments: Vec::new(), ..policy };
                // What is no refusal of the key may be another program's answer: it holds for now.
                if is_refusal(&problem) {
                    self.journal.write(POLICY, &(&empty, None::<String>))?;
                }
                if self.memory.current.is_some() { Ok(empty) } else { Err(problem) }
            }
            Err(NoAnswer::Away { problem, retry_after }) => {
                self.away = self.away.again(retry_after);
                self.write("PolicyAgent", "", &format!("the site is away: {problem}"));
                kept.map(|(policy, _)| policy).ok_or(problem)
            }
        }
    }

    async fn tell_facts(&mut self, link: &Link) {
        let facts = self.hands.facts();
        if self.memory.facts.as_ref() == Some(&facts) {
            return;
        }
        let report = FactsReport { taken: self.hands.now(), facts: facts.clone() };
        match link.facts(&report).await {
            Ok(()) => self.memory.facts = Some(facts),
            Err(problem) => self.write("PolicyAgent", "", &format!("facts were not taken: {problem}")),
        }
    }

    /// Sends what the site does not have, in order. A site that is away gets it later.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`.
    pub async fn send(&mut self) -> Result<(), Problem> {
        let Some(link) = self.link.clone() else { return Ok(()) };
        self.tell_facts(&link).await;
        while let Some(batch) = self.memory.batch() {
            let last = batch.messages.last().map_or(0, |message| message.number);
            match link.status(&batch).await {
                // A site that acknowledges nothing is not asked for ever.
                Ok(ack) if ack.through >= last => self.memory.forget_through(ack.through),
                Ok(_) => break,
                Err(problem) => {
                    self.write("StatusAgent", "", &format!("messages stay here: {problem}"));
                    break;
                }
            }
            self.save()?;
        }
        self.save()
    }

    /// Goes on with what runs, then looks at every deployment and runs what is due.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn round(&mut self, policy: &Policy, wanted: &[DeploymentId]) -> Result<Round, Stopped> {
        let mut round = Round::default();
        self.delta = policy.settings.delta_content;
        self.tidy()?;
        self.unpin().await;
        if self.memory.current.is_some() {
            self.go_on(&mut round).await?;
        }
        let mut due: Vec<&Assignment> = policy.assignments.iter().collect();
        due.sort_by_key(|one| (one.purpose != Purpose::Required, one.deadline, one.deployment.clone()));
        for assignment in due {
            if round.restarting {
                break;
            }
            if round.deployments.iter().any(|line| line.deployment == assignment.deployment) {
                continue;
            }
            let facts = self.hands.facts();
            let around = Around {
                policy,
                facts: &facts,
                history: &self.memory.history,
                wanted: wanted.contains(&assignment.deployment),
                now: self.hands.now(),
            };
            let verdict = verdict(assignment, around);
            match verdict {
                Verdict::Now => {
                    if let Some(line) = self.without_its_secrets(assignment).await? {
                        round.held.push(assignment.deployment.clone());
                        round.deployments.push(line);
                        continue;
                    }
                    self.begin(policy, assignment)?;
                    self.go_on(&mut round).await?;
                }
                other => {
                    if other == Verdict::Done {
                        round.earlier.push(assignment.deployment.clone());
                    }
                    round.deployments.push(self.not_now(policy, assignment, other).await?);
                }
            }
        }
        round.unsent = self.memory.outbox.len();
        Ok(round)
    }

    async fn go_on(&mut self, round: &mut Round) -> Result<(), Stopped> {
        match self.drive().await? {
            Driven::Ended(line) => round.deployments.push(line),
            Driven::GoingDown => round.restarting = true,
        }
        Ok(())
    }

    /// Scripts go after the restart that follows their run.
    fn tidy(&mut self) -> Result<(), Stopped> {
        let boot = self.hands.boot();
        let Some(left) = self.memory.scripts.as_ref().and_then(|all| all.remove_after_restart(&boot)) else {
            return Ok(());
        };
        self.hands.reached(Moment::Tidied)?;
        let stay: Vec<String> = left.iter().map(|(script, why)| script.stays(why)).collect();
        let files: Vec<_> = left.into_iter().map(|(script, _)| script).collect();
        match self.memory.scripts.take() {
            Some(scripts) if !files.is_empty() => {
                // They are tried again at each look; said is that once for each start.
                if scripts.files.len() != files.len() || self.warned.as_ref() != Some(&boot) {
                    stay.iter().for_each(|text| self.write("TSManager", "", text));
                    tracing::warn!("{}", stay.join("; "));
                    self.warned = Some(boot);
                }
                self.memory.scripts = Some(scripts::Scripts { files, ..scripts });
            }
            _ => self.write("TSManager", "", "the scripts of the last run are removed"),
        }
        self.save()?;
        Ok(())
    }

    async fn not_now(
        &mut self,
        policy: &Policy,
        assignment: &Assignment,
        verdict: Verdict,
    ) -> Result<Line, Problem> {
        let mut line = Line::waiting(assignment);
        match verdict {
            Verdict::Now => {}
            Verdict::Done => {
                let past = self.memory.history.iter().rfind(|past| past.deployment == assignment.deployment);
                if let Some(past) = past {
                    line.state = past.state;
                    line.run = Some(past.run);
                    line.code = past.code.as_ref().and_then(|code| code.parse().ok());
                }
                line.details = match assignment.purpose {
                    Purpose::Required if assignment.rerun != Rerun::Never => {
                        "it was run for this deadline already; another deadline makes it due again"
                    }
                    _ => "it was run already",
                }
                .to_owned();
                return Ok(line);
            }
            Verdict::Later { at, why } => (line.details, line.next) = (why.to_owned(), Some(at)),
            Verdict::Offered => {
                line.details = "somebody may start it".to_owned();
                if assignment.content.pre_download {
                    self.prepare(policy, assignment, false, &mut line).await?;
                }
            }
            Verdict::Prepare { until, why } => {
                (line.details, line.next) = (why.to_owned(), Some(until));
                if let Some(missing) = self.prepare(policy, assignment, true, &mut line).await? {
                    let now = self.hands.now();
                    let again = evaluate::asked_again(now, until, policy.refresh());
                    let due = missing.later.and_then(|(_, wait)| after(now, wait));
                    line.next = Some(due.unwrap_or(again).min(again));
                }
            }
            Verdict::Not { state, code, why } => {
                (line.state, line.code, line.details) = (state, Some(code), why);
            }
        }
        self.tell_once(assignment, &line)?;
        Ok(line)
    }

    /// The same thing is said once.
    fn tell_once(&mut self, assignment: &Assignment, line: &Line) -> Result<(), Problem> {
        let text = format!("{} {:?} {}", line.state.word(), line.code, line.details);
        if self.memory.told.get(&assignment.deployment) == Some(&text) {
            return Ok(());
        }
        self.write(
            "TSAgent",
            assignment.deployment.as_str(),
            &format!("{}: {}", line.state.word(), line.details),
        );
        let said = Said {
            state: line.state,
            step: None,
            code: line.code,
            exit: None,
            details: line.details.clone(),
            bytes: Vec::new(),
        };
        self.memory.tell(&assignment.deployment, 0, said, self.hands.now(), &Masker::default());
        self.memory.told.insert(assignment.deployment.clone(), text);
        self.save()
    }

    /// Fetches ahead of the run. With `all`, also what a pre-download leaves out: feature updates (mission row M20). Only
    /// what fits this device is fetched (mission row M68). What is not there, if anything is not.
    async fn prepare(
        &mut self,
        policy: &Policy,
        assignment: &Assignment,
        all: bool,
        line: &mut Line,
    ) -> Result<Option<NotGot>, Problem> {
        let Ok(sequence) = assignment.sequence() else { return Ok(None) };
        let (plan, facts) = (Plan::of(&sequence), self.hands.facts());
        let scan = self.hands.scan();
        let told = Told { assignment, updates: &policy.updates, scan: scan.as_deref() };
        let Ahead { needs, left_out } = content::ahead(told, &plan, &facts, all);
        for need in needs {
            let got = self.have(assignment, need, Vec::new()).await;
            if let Ok(Some(got)) = &got
                && !got.gave.is_empty()
            {
                self.memory.came_ahead(got.content, got.bytes.clone());
            }
            self.save()?;
            if let Err(missing) = got {
                line.code = Some(missing.failure.code);
                line.details = format!("{}; it is asked for again until it runs", missing.failure.details);
                return Ok(Some(missing));
            }
        }
        line.details.push_str("; its content is there");
        if !left_out.is_empty() {
            line.details.push_str(&format!(", left out: {}", left_out.join(", ")));
        }
        Ok(None)
    }

    /// Makes sure that a file is there; `None` where it is taken for granted.
    async fn have(
        &mut self,
        assignment: &Assignment,
        need: Need<'_>,
        last: Vec<String>,
    ) -> Result<Option<Got>, NotGot> {
        let now = self.hands.now();
        if let Some(content) = need.file.sha256
            && let Some(path) = self.media.get(&content)
        {
            let name = "stand-alone media".to_owned();
            let bytes = vec![BytesFrom { origin: Origin::Device, name, bytes: need.file.size }];
            return Ok(Some(Got { content, path: path.clone(), bytes, gave: Vec::new() }));
        }
        match (self.hands.assumes(need.file), &self.client) {
            (Some(Ok(_)), _) => Ok(None),
            (Some(Err(problem)), _) => {
                Err(Failure { code: problem.code, exit: None, details: problem.message }.into())
            }
            (None, Some(client)) => {
                self.pin(client, need).await?;
                let since = need.file.sha256.map(|content| self.memory.asked_since(content, now));
                let asking = Asking { last, since: since.unwrap_or_default(), delta: self.delta };
                let got = content::fetch(client, &assignment.content, need, asking).await;
                let got = got.map_err(|mut missing| {
                    if let Some((who, from)) =
                        missing.later.as_ref().and_then(|(who, wait)| Some((who, after(now, *wait)?)))
                    {
                        missing.failure.details.push_str(&format!("; {who} may be asked from {from:.0}"));
                    }
                    missing
                })?;
                self.memory.asked.remove(&got.content);
                Ok(Some(got))
            }
            (None, None) => {
                let details = format!("`{}` cannot be fetched: no site is known", need.file.name);
                Err(Failure { code: Code::ContentUnavailable, exit: None, details }.into())
            }
        }
    }

    fn begin(&mut self, policy: &Policy, assignment: &Assignment) -> Result<(), Problem> {
        let run = self.memory.number_a_run();
        let frame = Frame {
            run,
            assignment: assignment.clone(),
            settings: policy.settings,
            updates: policy.updates.clone(),
            scan: self.hands.scan(),
        };
        self.journal.keep_frame(&frame)?;
        let plan = Plan::of(&assignment.sequence()?);
        let now = self.hands.now();
        let progress = Progress::begin(&plan, &frame, &self.hands.facts(), &self.hands.boot());
        self.memory.scripts = Some(scripts::write(self.journal.folder(), &self.program, now)?);
        self.memory.told.remove(&assignment.deployment);
        self.memory.current = Some(Current {
            run,
            deployment: assignment.deployment.clone(),
            started: now,
            seen: now,
            progress,
        });
        self.write(
            "TSManager",
            assignment.deployment.as_str(),
            &format!("run {run} of `{}` begins", assignment.name),
        );
        self.save()
    }
}
