//! Transfers, eviction and removal in whatever order, and at once: what has the name of a content is that content.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;

fn by_sha1(wanted: &Wanted) -> Wanted {
    Wanted { digests: Digests { sha256: None, ..wanted.digests }, ..*wanted }
}

/// A process that works on the library, with at most one transfer of the content.
struct Process {
    library: Library,
    staged: Option<Staged>,
    /// By which digests it knows the content: who knows others has another file in `staging`.
    wanted: Wanted,
}

/// What one of them does.
#[derive(Debug, Clone)]
enum Act {
    /// A transfer begins, or goes on where another one stopped.
    Begins,
    /// Bytes come, which are wrong or not.
    Comes(usize, bool),
    /// What came is forgotten.
    Rewinds,
    /// The transfer dies.
    Dies,
    /// The rest comes, and the whole is looked at.
    Ends,
    /// What came goes, unless somebody works on it.
    Evicts,
    /// The content goes.
    Removes,
    /// The content is held to be bad.
    SetsAside,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Begins),
        6 => (1..120_000_usize, prop::bool::weighted(0.2)).prop_map(|(count, wrong)| Act::Comes(count, wrong)),
        1 => Just(Act::Rewinds),
        2 => Just(Act::Dies),
        5 => Just(Act::Ends),
        2 => Just(Act::Evicts),
        2 => Just(Act::Removes),
        1 => Just(Act::SetsAside),
    ]
}

impl Process {
    fn does(&mut self, act: &Act, data: &[u8], digest: Sha256Digest) {
        match act {
            Act::Begins if self.staged.is_some() => {}
            Act::Begins => match self.library.stage(&self.wanted) {
                Ok(staged) => self.staged = Some(staged),
                Err(error) => assert!(matches!(error, LibraryError::Busy { .. }), "{error}"),
            },
            Act::Comes(count, wrong) => {
                let Some(staged) = &mut self.staged else { return };
                let from = staged.have() as usize;
                let mut part = data[from..(from + count).min(data.len())].to_vec();
                if *wrong {
                    part.iter_mut().for_each(|byte| *byte ^= 1);
                }
                staged.append(&part).unwrap();
            }
            Act::Rewinds => {
                if let Some(staged) = &mut self.staged {
                    staged.rewind().unwrap();
                }
            }
            Act::Dies => self.staged = None,
            Act::Ends => {
                let Some(mut staged) = self.staged.take() else { return };
                let from = staged.have() as usize;
                staged.append(&data[from..]).unwrap();
                staged.catch_up().unwrap();
                match staged.check(&self.wanted) {
                    Ok(verified) => assert_eq!(staged.commit(verified).unwrap().digest(), digest),
                    Err(_) => {
                        staged.rewind().unwrap();
                        self.staged = Some(staged);
                    }
                }
            }
            Act::Evicts => {
                let gone = self.library.abandon(&self.wanted).unwrap();
                assert!(!gone || self.staged.is_none(), "nobody's work is dropped");
            }
            Act::Removes => self.library.remove(digest).unwrap(),
            Act::SetsAside => self.library.set_aside(digest).unwrap(),
        }
    }
}

/// Every file under the name of a content.
fn assert_all_verified(folder: &Path) {
    for room in fs::read_dir(folder.join("blobs")).unwrap() {
        for file in fs::read_dir(room.unwrap().path()).unwrap() {
            let file = file.unwrap();
            let found = Sha256Digest::of(&fs::read(file.path()).unwrap());
            assert_eq!(file.file_name().to_str(), Some(found.to_string().as_str()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// One transfer, whatever order of writing, forgetting and dying: what is committed in the end has its digest.
    #[test]
    fn a_transfer_ends_right(acts in prop::collection::vec((0..3_u8, 1..90_000_usize), 0..12)) {
        let (_folder, library) = library();
        let data = bytes(1, 200_000);
        let wanted = wanted(&data);
        let mut staged = library.stage(&wanted).unwrap();
        for (act, count) in acts {
            match act {
                0 => {
                    let from = staged.have() as usize;
                    staged.append(&data[from..(from + count).min(data.len())]).unwrap();
                }
                1 => staged.rewind().unwrap(),
                _ => {
                    drop(staged);
                    staged = library.stage(&wanted).unwrap();
                }
            }
        }
        let from = staged.have() as usize;
        staged.append(&data[from..]).unwrap();
        let verified = staged.check(&wanted).unwrap();
        let stored = staged.commit(verified).unwrap();
        prop_assert_eq!(library.verify(stored.digest()).unwrap(), Verdict::Good);
    }

    /// Two processes, who know the content by the same digest or by two: after each act nothing unverified has its name, and in the
    /// end either of them gets it.
    #[test]
    fn nothing_unverified_is_left(alike in any::<bool>(), acts in prop::collection::vec((0..2_usize, act()), 0..30)) {
        let (folder, library) = library();
        let data = bytes(1, 150_000);
        let wanted = wanted(&data);
        let digest = wanted.digests.sha256.unwrap();
        let other = if alike { wanted } else { by_sha1(&wanted) };
        let mut processes = [wanted, other].map(|wanted| {
            let library = Library::open(folder.path(), Settings::default()).unwrap();
            Process { library, staged: None, wanted }
        });
        for (number, act) in &acts {
            processes[*number].does(act, &data, digest);
            assert_all_verified(folder.path());
        }
        processes.iter_mut().for_each(|process| process.does(&Act::Dies, &data, digest));
        for process in &mut processes {
            library.remove(digest).unwrap();
            process.does(&Act::Begins, &data, digest);
            process.does(&Act::Rewinds, &data, digest);
            process.does(&Act::Ends, &data, digest);
            assert_all_verified(folder.path());
            prop_assert_eq!(process.library.verify(digest).unwrap(), Verdict::Good);
        }
    }
}

/// At once, and not one after the other: whoever opens the content meanwhile reads it, or finds none.
#[test]
fn who_races_shows_nothing_unverified() {
    let (folder, library) = library();
    let data = bytes(1, 300_000);
    let wanted = wanted(&data);
    let digest = wanted.digests.sha256.unwrap();
    let (over, seen) = (AtomicBool::new(false), AtomicU32::new(0));
    let open = || Library::open(folder.path(), Settings::default()).unwrap();
    let transfer = |wanted: Wanted| {
        let library = open();
        // More of them where nobody has seen it yet.
        for round in 0..2_000 {
            if round >= 24 && seen.load(Ordering::Relaxed) > 0 {
                break;
            }
            let Ok(mut staged) = library.stage(&wanted) else { continue };
            let mut bytes = data[staged.have() as usize..].to_vec();
            if round % 3 == 0
                && let Some(first) = bytes.first_mut()
            {
                *first ^= 1;
            }
            // Others may take its name away meanwhile: then it ends with an error, which is as good.
            if staged.append(&bytes).is_ok()
                && staged.catch_up().is_ok()
                && let Ok(verified) = staged.check(&wanted)
            {
                let _ = staged.commit(verified);
            } else {
                let _ = staged.rewind();
            }
        }
    };
    std::thread::scope(|scope| {
        let transfers = [wanted, by_sha1(&wanted)].map(|wanted| scope.spawn(move || transfer(wanted)));
        scope.spawn(|| {
            let library = open();
            while !over.load(Ordering::Relaxed) {
                if let Ok(Some(mut found)) = library.open_content(digest) {
                    let mut read = Vec::new();
                    found.file.read_to_end(&mut read).unwrap();
                    assert!(read == data, "{} bytes of something else", read.len());
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        scope.spawn(|| {
            let library = open();
            while !over.load(Ordering::Relaxed) {
                let _ = (library.abandon(&wanted), library.abandon(&by_sha1(&wanted)));
                library.remove(digest).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let ended = transfers.map(std::thread::ScopedJoinHandle::join);
        // The others end too where one has failed.
        over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    assert!(seen.into_inner() > 0, "nobody has seen it");
    assert_all_verified(folder.path());
    put(&library, &data);
    assert_eq!(library.verify(digest).unwrap(), Verdict::Good);
}
