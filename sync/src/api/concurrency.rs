//! How much is done at once, in all and for one token. Pure; who finds no turn is told so at once, and comes again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};

/// Turns for one sort of work.
#[derive(Debug)]
pub struct Turns {
    what: &'static str,
    most: usize,
    most_each: usize,
    taken: Mutex<HashMap<Sha256Digest, usize>>,
}

impl Turns {
    /// So many in all, and so many for one token.
    pub fn new(what: &'static str, most: usize, most_each: usize) -> Arc<Self> {
        Arc::new(Self { what, most, most_each, taken: Mutex::default() })
    }

    /// A turn for a token, unless this would leave fewer than `spared` to others.
    ///
    /// # Errors
    /// `API_TOO_MANY` where the token has its share, `API_BUSY`.
    pub fn take(self: &Arc<Self>, token: Sha256Digest, spared: usize) -> Result<Turn, Problem> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.get(&token).is_some_and(|own| *own >= self.most_each) {
            let message =
                format!("this token has {} {} at once, and may have no more", self.most_each, self.what);
            return Err(Problem::new(Code::ApiTooMany, message));
        }
        if taken.values().sum::<usize>() + spared >= self.most {
            return Err(Problem::new(Code::ApiBusy, format!("there are too many {} at once", self.what)));
        }
        *taken.entry(token).or_default() += 1;
        drop(taken);
        Ok(Turn { turns: self.clone(), token })
    }
}

/// One turn, given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    token: Sha256Digest,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.token) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_share_and_some_turns_are_spared_for_those_who_may_more() {
        let turns = Turns::new("requests", 6, 3);
        let take = |token: &str, spared| {
            turns.take(Sha256Digest::of(token.as_bytes()), spared).map_err(|problem| problem.code)
        };
        let mut held: Vec<_> = (0..3).map(|_| take("a", 2).unwrap()).collect();
        assert_eq!(take("a", 2).unwrap_err(), Code::ApiTooMany);
        held.push(take("b", 2).unwrap());
        assert_eq!(take("b", 2).unwrap_err(), Code::ApiBusy, "two are for others");
        held.push(take("c", 0).unwrap());
        held.push(take("c", 0).unwrap());
        assert_eq!(take("c", 0).unwrap_err(), Code::ApiBusy);
        held.remove(0);
        assert!(take("c", 0).is_ok());
        drop(held);
        assert!(turns.taken.lock().unwrap().is_empty());
    }
}
