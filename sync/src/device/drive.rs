//! Does what the machine decides: writes down, then acts, then tells the machine what came of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::client::ClientSettings;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::content::{self, Need};
use super::evaluate::{Around, Verdict, verdict};
use super::executor::{Executor, Moment, Restarted, Stopped, Work};
use super::journal::{Current, Journal, Memory};
use super::link::Link;
use super::log::Log;
use super::machine::{Act, Event, Failure, Frame, Machine, Order, Outcome, Progress, Said};
use super::plan::Plan;
use super::variables::Masker;
use super::{judge, scripts, setup};
use crate::policy::{
    Assignment, BytesFrom, DeploymentId, FactsReport, MostOf, Policy, Purpose, RunState, Secrets, StatusBatch,
};
use crate::sequence::Action;
use crate::sequence::action::Sealed;

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
    /// Secrets from a file, for runs without a site.
    pub own_secrets: Option<Secrets>,
    secrets: Option<Secrets>,
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

/// What one look at a policy came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Each deployment.
    pub deployments: Vec<Line>,
    /// The device goes down; the next start goes on.
    pub restarting: bool,
    /// Messages that the site does not have yet.
    pub unsent: usize,
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
        Ok(Self { hands, journal, memory, log, link, client, own_secrets, secrets, program })
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

    /// The policy of the site, or the one that was kept where the site is away.
    ///
    /// # Errors
    /// `CLIENT_NO_SITE` where there is neither; `CLIENT_STATE_DAMAGED`.
    pub async fn policy(&mut self) -> Result<Policy, Problem> {
        let kept: Option<(Policy, Option<String>)> = self.journal.read("policy.json")?;
        let Some(link) = self.link.clone() else {
            return kept.map(|(policy, _)| policy).ok_or_else(|| {
                Problem::new(Code::ClientNoSite, "neither a site nor a policy is given")
                    .help("use --site or --policy")
            });
        };
        self.tell_facts(&link).await;
        let tag = kept.as_ref().and_then(|(_, tag)| tag.clone());
        match link.policy(tag.as_deref()).await {
            Ok(Some((policy, tag))) => {
                let text = format!("policy {} with {} deployments", policy.version, policy.assignments.len());
                self.write("PolicyAgent", "", &text);
                self.journal.write("policy.json", &(&policy, tag))?;
                Ok(policy)
            }
            Ok(None) => kept
                .map(|(policy, _)| policy)
                .ok_or_else(|| Problem::new(Code::SiteAnswerInvalid, "304 to no policy")),
            Err(problem) => {
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
        while !self.memory.outbox.is_empty() {
            let mut size = 1_000;
            let fits = |message: &&crate::policy::StatusMessage| {
                size += serde_json::to_vec(message).map_or(usize::MAX / 4, |bytes| bytes.len() + 1);
                size < MostOf::BATCH_BYTES
            };
            let messages: Vec<_> =
                self.memory.outbox.iter().take(MostOf::MESSAGES).take_while(fits).cloned().collect();
            let Some(last) = messages.last().map(|message| message.number) else { break };
            match link.status(&StatusBatch { series: self.memory.series, messages }).await {
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
        self.tidy()?;
        if self.memory.current.is_some() {
            match self.drive().await? {
                Driven::Ended(line) => round.deployments.push(line),
                Driven::GoingDown => round.restarting = true,
            }
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
                    self.begin(policy, assignment)?;
                    match self.drive().await? {
                        Driven::Ended(line) => round.deployments.push(line),
                        Driven::GoingDown => round.restarting = true,
                    }
                }
                other => round.deployments.push(self.not_now(policy, assignment, other).await?),
            }
        }
        round.unsent = self.memory.outbox.len();
        Ok(round)
    }

    /// Scripts go after the restart that follows their run.
    fn tidy(&mut self) -> Result<(), Problem> {
        let boot = self.hands.boot();
        if self.memory.scripts.as_ref().is_some_and(|scripts| scripts.remove_after_restart(&boot)) {
            self.memory.scripts = None;
            self.write("TSManager", "", "the scripts of the last run are removed");
            self.save()?;
        }
        Ok(())
    }

    async fn not_now(
        &mut self,
        policy: &Policy,
        assignment: &Assignment,
        verdict: Verdict,
    ) -> Result<Line, Problem> {
        let mut line = Line {
            deployment: assignment.deployment.clone(),
            name: assignment.name.clone(),
            run: None,
            state: RunState::Waiting,
            code: None,
            exit: None,
            details: String::new(),
            next: None,
        };
        match verdict {
            Verdict::Now => {}
            Verdict::Done => {
                let past = self.memory.history.iter().rfind(|past| past.deployment == assignment.deployment);
                if let Some(past) = past {
                    line.state = past.state;
                    line.run = Some(past.run);
                    line.code = past.code.as_ref().and_then(|code| code.parse().ok());
                }
                line.details = "it was run already".to_owned();
                return Ok(line);
            }
            Verdict::Later { at, why } => (line.details, line.next) = (why.to_owned(), Some(at)),
            Verdict::Offered => {
                line.details = "somebody may start it".to_owned();
                if assignment.content.pre_download {
                    self.prepare(policy, assignment, false, &mut line).await;
                }
            }
            Verdict::Prepare { until, why } => {
                (line.details, line.next) = (why.to_owned(), Some(until));
                self.prepare(policy, assignment, true, &mut line).await;
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
    /// what fits this device is fetched (mission row M68).
    async fn prepare(&mut self, policy: &Policy, assignment: &Assignment, all: bool, line: &mut Line) {
        let Ok(sequence) = assignment.sequence() else { return };
        let (plan, facts) = (Plan::of(&sequence), self.hands.facts());
        let deployed: Vec<_> = policy.updates.iter().map(|update| update.id).collect();
        let mut excluded = 0;
        for (at, _, action) in plan.steps() {
            if !plan.is_enabled(at) {
                continue;
            }
            let mut choice = None;
            if let Action::UpgradeOs(upgrade) = action {
                if super::evaluate::image_not_for(assignment, upgrade, &facts).is_some() {
                    continue;
                }
                choice = super::evaluate::choice(assignment, upgrade, &facts, &deployed);
            }
            for need in content::needs(assignment, action, choice.as_ref()) {
                if need.feature_update && !all {
                    excluded += 1;
                    continue;
                }
                if let Err(failure) = self.have(assignment, need).await {
                    line.code = Some(failure.code);
                    line.details = format!("{}; it is tried again until it runs", failure.details);
                    return;
                }
            }
        }
        line.details.push_str("; its content is there");
        if excluded > 0 {
            line.details.push_str(", but for feature updates, which are not fetched ahead");
        }
    }

    /// Makes sure that a file is there.
    async fn have(
        &self,
        assignment: &Assignment,
        need: Need<'_>,
    ) -> Result<(Option<(Sha256Digest, PathBuf)>, Vec<BytesFrom>), Failure> {
        match (self.hands.assumes(need.file), &self.client) {
            (Some(Ok(_)), _) => Ok((None, Vec::new())),
            (Some(Err(problem)), _) => {
                Err(Failure { code: problem.code, exit: None, details: problem.message })
            }
            (None, Some(client)) => {
                let (digest, path, bytes) = content::fetch(client, &assignment.content, need).await?;
                Ok((Some((digest, path)), bytes))
            }
            (None, None) => Err(Failure {
                code: Code::ContentUnavailable,
                exit: None,
                details: format!("`{}` cannot be fetched: no site is known", need.file.name),
            }),
        }
    }

    fn begin(&mut self, policy: &Policy, assignment: &Assignment) -> Result<(), Problem> {
        let run = self.memory.number_a_run();
        let frame = Frame {
            run,
            assignment: assignment.clone(),
            settings: policy.settings,
            updates: policy.updates.clone(),
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

    /// Drives the run that is not over, to its end or to a restart.
    async fn drive(&mut self) -> Result<Driven, Stopped> {
        let Some(current) = self.memory.current.clone() else {
            return Err(Problem::new(Code::Internal, "there is no run").into());
        };
        let frame = self.journal.frame(current.run)?;
        let sequence = frame.assignment.sequence()?;
        let plan = Plan::of(&sequence);
        let mut machine = Machine::new(&plan, &frame, current.progress);
        let mut files = BTreeMap::new();
        self.learn_secrets(&frame).await;
        let gap = self.hands.now().duration_since(current.seen);
        let gap = if gap.is_negative() { Duration::ZERO } else { gap.unsigned_abs() };
        let mut took = gap.min(LONGEST_GAP);
        let mut event = Event::woke(&self.hands.boot());
        loop {
            let noted = matches!(event, Event::Ended(_)).then(|| machine_number(&machine, &plan)).flatten();
            let turn = machine.on(event, took);
            let now = self.hands.now();
            for said in turn.said {
                self.log_said(&frame, &said);
                self.memory.tell(&frame.assignment.deployment, frame.run, said, now, &self.log.masker);
            }
            if let Some(current) = &mut self.memory.current {
                current.progress = machine.progress.clone();
                current.seen = now;
            }
            if let Act::End(end) = &turn.act {
                // The end and its message are written down together.
                if let Some(scripts) = &mut self.memory.scripts {
                    scripts.ended_in = Some(self.hands.boot());
                }
                self.memory.close(&frame, end.state, end.code, now);
            }
            self.save()?;
            if let Some(number) = noted {
                self.hands.reached(Moment::Noted(number))?;
            }
            let from = self.hands.passed();
            event = match turn.act {
                Act::End(end) => {
                    self.log.masker = Masker::default();
                    self.secrets = None;
                    let _ = self.send().await;
                    return Ok(Driven::Ended(Line {
                        deployment: frame.assignment.deployment.clone(),
                        name: frame.assignment.name.clone(),
                        run: Some(frame.run),
                        state: end.state,
                        code: end.code,
                        exit: end.exit.map(setup::shown),
                        details: end.details,
                        next: None,
                    }));
                }
                Act::Fetch { node, pause } => {
                    self.hands.pause(pause).await;
                    Event::Fetched(self.fetch(&plan, &frame, &machine, node, &mut files).await)
                }
                Act::Judge(node) => {
                    let when = plan.at(node).and_then(|node| node.common.when.clone());
                    let facts = self.hands.facts();
                    Event::Judged(when.is_none_or(|when| {
                        judge::holds(
                            &when,
                            machine.progress.variables(),
                            self.secrets.as_ref(),
                            &facts,
                            &self.hands,
                        )
                    }))
                }
                Act::Run(order) => self.run(&plan, &frame, &machine, &order, &mut files).await?,
                Act::Look(order) => {
                    match work(&plan, &frame, &machine, &order, self.secrets.as_ref(), &files) {
                        Some(work) if is_ours(work.action) => Event::Found(super::machine::Found::Lost),
                        Some(work) => Event::Found(self.hands.look(work).await?),
                        None => Event::Found(super::machine::Found::Lost),
                    }
                }
                Act::Settle => {
                    let node = machine.progress.pending_setup().unwrap_or_default();
                    let order = Order { node, part: 0, attempt: 1, limit: Duration::ZERO };
                    match work(&plan, &frame, &machine, &order, self.secrets.as_ref(), &files) {
                        Some(work) => Event::Found(self.hands.settle(work).await?),
                        None => Event::Found(super::machine::Found::Lost),
                    }
                }
                Act::Restart { delay, boot_image } => {
                    let _ = self.send().await;
                    match self.hands.restart(delay, boot_image).await? {
                        Restarted::Again(boot) => Event::woke(&boot),
                        Restarted::GoingDown => return Ok(Driven::GoingDown),
                    }
                }
            };
            took = self.hands.passed().saturating_sub(from);
        }
    }

    fn log_said(&mut self, frame: &Frame, said: &Said) {
        let step = said.step.as_ref().map_or_else(
            || said.state.word().to_owned(),
            |step| format!("step {} `{}` {}", step.number, step.name, step.state.word()),
        );
        let code = said.code.map(|code| format!(" [{code}]")).unwrap_or_default();
        let exit = said.exit.map(|exit| format!(" ({})", setup::shown(exit))).unwrap_or_default();
        let details = if said.details.is_empty() { String::new() } else { format!(": {}", said.details) };
        self.write(
            "TSManager",
            frame.assignment.deployment.as_str(),
            &format!("{step}{exit}{code}{details}"),
        );
        for from in &said.bytes {
            let text = format!("{} bytes from {} {}", from.bytes, from.origin.word(), from.name);
            self.write("ContentTransfer", frame.assignment.deployment.as_str(), &text);
        }
    }

    async fn learn_secrets(&mut self, frame: &Frame) {
        if self.secrets.is_some() || !frame.assignment.secrets.iter().any(|secret| secret.present) {
            return;
        }
        self.secrets = match (&self.own_secrets, &self.link) {
            (Some(own), _) => Some(own.clone()),
            (None, Some(link)) => link.secrets(&frame.assignment.deployment).await.ok(),
            (None, None) => None,
        };
        self.log.masker = Masker::of(self.secrets.as_ref());
    }

    async fn fetch(
        &self,
        plan: &Plan,
        frame: &Frame,
        machine: &Machine<'_>,
        node: Option<usize>,
        files: &mut BTreeMap<Sha256Digest, PathBuf>,
    ) -> Result<Vec<BytesFrom>, Failure> {
        let mut bytes = Vec::new();
        for (at, step, action) in plan.steps() {
            if !plan.is_enabled(at) || node.is_some_and(|node| node != at) {
                continue;
            }
            for need in content::needs(&frame.assignment, action, machine.progress.choice(step.number)) {
                let (found, given) = self.have(&frame.assignment, need).await?;
                files.extend(found);
                bytes.extend(given);
            }
        }
        Ok(content::summed(bytes))
    }

    /// Runs one act of a step: its content is verified right before.
    async fn run(
        &mut self,
        plan: &Plan,
        frame: &Frame,
        machine: &Machine<'_>,
        order: &Order,
        files: &mut BTreeMap<Sha256Digest, PathBuf>,
    ) -> Result<Event, Stopped> {
        let Some(node) = plan.at(order.node) else {
            return Err(Problem::new(Code::Internal, "no such step").into());
        };
        self.hands.reached(Moment::Begins(node.number))?;
        let Some(action) = &node.action else {
            return Err(Problem::new(Code::Internal, "a group runs nothing").into());
        };
        let facts = self.hands.facts();
        let refused =
            |code, exit, details: String| Event::Ended(Outcome::Failed(Failure { code, exit, details }));
        if let Action::CheckReadiness(check) = action {
            let wrong = judge::not_ready(check, &facts);
            if wrong.is_empty() {
                return Ok(Event::Ended(Outcome::Exit { code: 0, output: None }));
            }
            return Ok(refused(Code::ReadinessFailed, Some(setup::NOT_READY), wrong.join("; ")));
        }
        if let Action::UpgradeOs(upgrade) = action {
            let nothing = match machine.progress.choice(node.number) {
                Some(choice) if choice.chosen.is_none() => Some(super::evaluate::reasons(choice)),
                Some(_) => None,
                None => super::evaluate::image_not_for(&frame.assignment, upgrade, &facts),
            };
            if let Some(why) = nothing {
                return Ok(refused(Code::NoFeatureUpdateApplies, Some(0xC190_0200), why));
            }
        }
        let choice = machine.progress.choice(node.number);
        for need in content::needs(&frame.assignment, action, choice) {
            if let Err(failure) = self.verified(frame, need, files).await {
                return Ok(Event::Ended(Outcome::Failed(failure)));
            }
        }
        if let Action::DownloadContent(_) = action {
            return Ok(Event::Ended(Outcome::Exit { code: 0, output: None }));
        }
        self.learn_secrets(frame).await;
        let missing = secrets_of(action, machine)
            .into_iter()
            .find(|place| self.secrets.as_ref().is_none_or(|secrets| secrets.at(place).is_none()));
        if let Some(place) = missing {
            let place = String::from(place);
            return Ok(refused(Code::SecretMissing, None, format!("the secret at {place} is not known")));
        }
        let Some(work) = work(plan, frame, machine, order, self.secrets.as_ref(), files) else {
            return Err(Problem::new(Code::Internal, "no such step").into());
        };
        for line in self.hands.show(work) {
            self.log.line(
                self.hands.now(),
                "TSManager",
                frame.assignment.deployment.as_str(),
                &format!("runs: {line}"),
            );
        }
        let outcome = self.hands.run(work).await?;
        self.hands.reached(Moment::Ended(node.number))?;
        Ok(Event::Ended(outcome))
    }

    /// A file as it should be, read whole right before it is used; once fetched again where it is not.
    async fn verified(
        &self,
        frame: &Frame,
        need: Need<'_>,
        files: &mut BTreeMap<Sha256Digest, PathBuf>,
    ) -> Result<(), Failure> {
        let Some((digest, path)) = self.have(&frame.assignment, need).await?.0 else { return Ok(()) };
        let checked = path.clone();
        let verified = tokio::task::spawn_blocking(move || content::verify(&checked, digest)).await;
        match verified {
            Ok(Ok(())) => {
                files.insert(digest, path);
                Ok(())
            }
            Ok(Err(problem)) => Err(Failure { code: problem.code, exit: None, details: problem.message }),
            Err(died) => Err(Failure { code: Code::Internal, exit: None, details: died.to_string() }),
        }
    }

    /// What would be run for a deployment, step by step, with secrets masked.
    ///
    /// # Errors
    /// `TASK_SEQUENCE_INVALID`.
    pub fn show(
        &self,
        policy: &Policy,
        assignment: &Assignment,
    ) -> Result<Vec<(String, Vec<String>)>, Problem> {
        let plan = Plan::of(&assignment.sequence()?);
        let frame = Frame {
            run: 0,
            assignment: assignment.clone(),
            settings: policy.settings,
            updates: policy.updates.clone(),
        };
        let progress = Progress::begin(&plan, &frame, &self.hands.facts(), &self.hands.boot());
        let machine = Machine::new(&plan, &frame, progress);
        let files = BTreeMap::new();
        let mut shown = Vec::new();
        for (at, node, action) in plan.steps().filter(|(at, _, _)| plan.is_enabled(*at)) {
            let order = Order { node: at, part: 0, attempt: 1, limit: Duration::ZERO };
            let Some(work) = work(&plan, &frame, &machine, &order, None, &files) else { continue };
            let title = format!("{} {} ({})", node.number, node.common.name, action.title());
            shown.push((title, self.hands.show(work)));
        }
        Ok(shown)
    }
}

/// What the driver carries out itself; all of it may be done twice.
fn is_ours(action: &Action) -> bool {
    matches!(action, Action::CheckReadiness(_) | Action::DownloadContent(_))
}

fn machine_number(machine: &Machine<'_>, plan: &Plan) -> Option<u32> {
    plan.at(machine.progress.position()).map(|node| node.number)
}

fn secrets_of(action: &Action, machine: &Machine<'_>) -> Vec<Sealed> {
    let variables = machine.progress.variables();
    match action {
        Action::UpgradeOs(upgrade) => {
            upgrade.product_key.iter().filter(|_| upgrade.image.is_some()).cloned().collect()
        }
        Action::RunCommand(command) => {
            let mut all = variables.secrets_in(&command.command);
            all.extend(variables.secrets_in(&command.start_in));
            all
        }
        _ => Vec::new(),
    }
}

fn work<'a>(
    plan: &'a Plan,
    frame: &'a Frame,
    machine: &'a Machine<'_>,
    order: &'a Order,
    secrets: Option<&'a Secrets>,
    files: &'a BTreeMap<Sha256Digest, PathBuf>,
) -> Option<Work<'a>> {
    let node = plan.at(order.node)?;
    let action = node.action.as_ref()?;
    let (variables, choice) = (machine.progress.variables(), machine.progress.choice(node.number));
    Some(Work { order, node, action, frame, variables, choice, secrets, files })
}
