//! One run, from where it stands to its end or to a restart: written down, then acted on, then the machine is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};

use super::courier::Courier;
use super::{Device, Driven, LONGEST_GAP, Line};
use crate::blocking::blocking;
use crate::device::content::{self, Need, NotGot};
use crate::device::executor::{Executor, Moment, Restarted, Stopped, Work};
use crate::device::machine::{Act, Event, Failure, Found, Frame, Machine, Order, Outcome, Progress, Said};
use crate::device::mend::{Mending, Next};
use crate::device::plan::Plan;
use crate::device::variables::Masker;
use crate::device::{evaluate, judge, setup};
use crate::jitter;
use crate::policy::{Assignment, BytesFrom, Policy, RunState, Secrets};
use crate::sequence::Action;
use crate::sequence::action::Sealed;
use crate::sequence::condition::Condition;

impl<E: Executor> Device<E> {
    /// Drives the run that is not over, to its end or to a restart.
    pub(super) async fn drive(&mut self) -> Result<Driven, Stopped> {
        let Some(current) = self.memory.current.clone() else {
            return Err(Problem::new(Code::Internal, "there is no run").into());
        };
        let frame = self.journal.frame(current.run)?;
        self.delta = frame.settings.delta_content;
        let sequence = frame.assignment.sequence()?;
        let plan = Plan::of(&sequence);
        let mut machine = Machine::new(&plan, &frame, current.progress);
        let mut files = BTreeMap::new();
        // Whoever has none by the time a step needs one asks again.
        let _ = self.learn_secrets(&frame.assignment).await;
        let courier = self.link.clone().map(|link| Courier::start(link, self.telling));
        let mut told = 0;
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
            if let Some(courier) = &courier {
                self.memory.forget_through(courier.taken());
            }
            self.save()?;
            self.hands.written();
            // Only what is written down is told.
            let last = self.memory.outbox.back().map_or(0, |message| message.number);
            if let Some(courier) = courier.as_ref().filter(|_| last != told) {
                courier.bring(self.memory.batch());
                told = last;
            }
            if let Some(number) = noted {
                self.hands.reached(Moment::Noted(number))?;
            }
            let from = self.hands.passed();
            event = match turn.act {
                Act::End(end) => {
                    drop(courier);
                    self.log.masker = Masker::default();
                    self.secrets = None;
                    self.unpin().await;
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
                    let step = node.and_then(|node| plan.at(node)).map_or(0, |node| node.number);
                    self.hands.reached(Moment::Fetches(step))?;
                    let fetched = self.fetch(&plan, &frame, &machine, node, &mut files).await;
                    self.hands.reached(Moment::Fetched(step))?;
                    match fetched {
                        Err(NotGot { failure, later: Some((_, wait)) }) => Event::Later(wait, failure),
                        fetched => Event::Fetched(fetched.map_err(|missing| missing.failure)),
                    }
                }
                Act::Wait(pause) => {
                    // Those who waited for the same site do not come back together.
                    self.hands.pause(pause.mul_f64(1.0 + 0.2 * jitter::random())).await;
                    Event::Waited
                }
                Act::Judge(node) => {
                    let when = plan.at(node).and_then(|node| node.common.when.clone());
                    self.judge(&frame, &machine, when.as_ref()).await
                }
                Act::Run(order) => self.run(&plan, &frame, &machine, &order, &mut files).await?,
                Act::Look(order) => {
                    match work(&plan, &frame, &machine, &order, self.secrets.as_ref(), &files) {
                        Some(work) if is_ours(work.action) => Event::Found(Found::Lost),
                        Some(work) => {
                            let found = self.hands.look(work).await?;
                            Event::Found(self.without_secrets(&frame, found))
                        }
                        None => Event::Found(Found::Lost),
                    }
                }
                Act::Settle => {
                    let (node, attempt) = machine.progress.pending_setup().unwrap_or((0, 1));
                    let order = Order { node, part: 0, attempt, limit: Duration::ZERO };
                    match work(&plan, &frame, &machine, &order, self.secrets.as_ref(), &files) {
                        Some(work) => Event::Found(self.hands.settle(work).await?),
                        None => Event::Found(Found::Lost),
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

    /// Whether a condition holds; one that asks for a secret is not judged without it, as long as it may still come.
    async fn judge(&mut self, frame: &Frame, machine: &Machine<'_>, when: Option<&Condition>) -> Event {
        let Some(when) = when else { return Event::Judged(true) };
        let variables = machine.progress.variables();
        let places = judge::secrets_in(when, variables);
        if !places.is_empty()
            && let Some(later @ Event::Later(..)) = self.need_secrets(&frame.assignment, &places).await
        {
            return later;
        }
        let facts = self.hands.facts();
        Event::Judged(judge::holds(when, variables, self.secrets.as_ref(), &facts, &self.hands))
    }

    async fn fetch(
        &mut self,
        plan: &Plan,
        frame: &Frame,
        machine: &Machine<'_>,
        node: Option<usize>,
        files: &mut BTreeMap<Sha256Digest, PathBuf>,
    ) -> Result<Vec<BytesFrom>, NotGot> {
        let facts = self.hands.facts();
        let needs = match node.and_then(|node| Some((plan.at(node)?, plan.at(node)?.action.as_ref()?))) {
            Some((step, action)) => {
                content::needs(frame.into(), action, machine.progress.choice(step.number))
            }
            // What cannot be used here fails its step for that, and needs no download before.
            None => content::ahead(frame.into(), plan, &facts, true).needs,
        };
        let mut bytes = Vec::new();
        for need in needs {
            if let Some(got) = self.have(&frame.assignment, need, Vec::new()).await? {
                // What came ahead of this run came for it.
                let ahead = self.memory.ahead.remove(&got.content).filter(|_| got.gave.is_empty());
                bytes.extend(ahead.unwrap_or(got.bytes));
                files.insert(got.content, got.path);
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
                Some(choice) if choice.chosen.is_none() => Some(evaluate::reasons(choice)),
                Some(_) => None,
                None => evaluate::image_not_for(&frame.assignment, upgrade, &facts),
            };
            if let Some(why) = nothing {
                return Ok(refused(Code::NoFeatureUpdateApplies, Some(0xC190_0200), why));
            }
        }
        // Before content is read, which takes its time with each try.
        let places = secrets_of(action, machine);
        if let Some(instead) = self.need_secrets(&frame.assignment, &places).await {
            return Ok(instead);
        }
        let choice = machine.progress.choice(node.number);
        for need in content::needs_of(frame.into(), action, choice, order.part) {
            if let Err(failure) = self.verified(frame, need, files).await {
                return Ok(Event::Ended(Outcome::Failed(failure)));
            }
        }
        if let Action::DownloadContent(_) = action {
            return Ok(Event::Ended(Outcome::Exit { code: 0, output: None }));
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

    /// A file as it should be, read whole right before it is used. One that is not is removed and fetched again, as
    /// [`Mending`] says; whatever comes of it is told.
    async fn verified(
        &mut self,
        frame: &Frame,
        need: Need<'_>,
        files: &mut BTreeMap<Sha256Digest, PathBuf>,
    ) -> Result<(), Failure> {
        let name = need.file.name.as_str();
        let mut mending = Mending::default();
        loop {
            let got = self.have(&frame.assignment, need, mending.asked_last()).await;
            let Some(got) = got.map_err(|missing| mending.unfetched(missing.failure, name))? else {
                return Ok(());
            };
            mending.came_from(&got.gave);
            let (path, digest) = (got.path.clone(), got.content);
            let checked = blocking(move || content::verify(&path, digest)).await;
            let wrong = checked.as_ref().err().map(|problem| problem.to_string());
            let next = mending.on(checked, name);
            if let (Some(wrong), Some(client)) = (wrong, &self.client) {
                let removed = dp::client::discard(client, digest).await;
                let kept =
                    removed.err().map(|error| format!("; it cannot be removed: {error}")).unwrap_or_default();
                self.say(frame, format!("`{name}` is removed: {wrong}{kept}"), Vec::new());
            }
            match next {
                Next::Again => {}
                Next::Fail(failure) => return Err(failure),
                Next::Use => {
                    if mending.times() > 0 {
                        self.say(frame, format!("`{name}` was fetched again, and is right"), got.bytes);
                    } else if !got.gave.is_empty() {
                        self.say(frame, format!("`{name}` was fetched"), got.bytes);
                    }
                    files.insert(digest, got.path);
                    return Ok(());
                }
            }
        }
    }

    /// Tells what the machine does not decide.
    pub(super) fn say(&mut self, frame: &Frame, details: String, bytes: Vec<BytesFrom>) {
        let said = Said { state: RunState::Running, step: None, code: None, exit: None, details, bytes };
        self.log_said(frame, &said);
        let now = self.hands.now();
        self.memory.tell(&frame.assignment.deployment, frame.run, said, now, &self.log.masker);
        // Where that fails, so does what is written down next, and that is seen.
        let _ = self.save();
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
            scan: self.hands.scan(),
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
