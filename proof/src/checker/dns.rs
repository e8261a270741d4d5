//! Our servers, and what resolvers remember of them.

use super::world::{Action, Heard, Life, NAMES, State, Story, World};

impl World {
    /// Each of our servers, hearing of the record set. Names of before and after a move are in zones that may be elsewhere,
    /// each with two servers of its own.
    pub(super) fn servers(&self) -> impl Iterator<Item = Action> + use<> {
        let all = if self.story.moves() { 4 } else { 2 };
        (0..all).map(Action::Serve)
    }

    pub(super) fn serve(&self, s: &mut State, server: usize) {
        let published = s.set.map(|set| self.kernel.published(set)).unwrap_or_default();
        let first = server - server % 2;
        let names = if self.story.moves() { first..first + 2 } else { 0..NAMES };
        for name in names {
            s.served[server % 2][name] = published[name].first().map_or(Heard::Nothing, |(heard, _)| *heard);
        }
        self.remember(s);
    }

    /// Our servers are hearing that what they answer is withdrawn for good, which does not take them a tick: of all records of
    /// a domain that is gone, and of those that a host may go on copying. What they went on to answer would be remembered when
    /// nothing of ours tells of it any more.
    pub(super) fn is_withdrawing(&self, s: &State) -> bool {
        let published = s.set.map(|set| self.kernel.published(set)).unwrap_or_default();
        let gone = s.life == Life::Gone && published.iter().all(Vec::is_empty);
        let withdrawn = |name: &usize| {
            published[*name].is_empty() && s.served.iter().any(|server| server[*name] != Heard::Nothing)
        };
        (gone || self.story == Story::Hidden) && (0..NAMES).any(|name| withdrawn(&name))
    }

    /// The two servers of a zone are alike: states that differ in which is which are one.
    pub(super) fn order_servers(&self, s: &mut State) {
        let all = std::iter::once(&mut s.served).chain(s.kept.as_mut().map(|look| &mut look.txt));
        for [one, two] in all {
            let half = if self.story.moves() { NAMES / 2 } else { NAMES };
            for (one, two) in one.chunks_mut(half).zip(two.chunks_mut(half)) {
                if *one < *two {
                    one.swap_with_slice(two);
                }
            }
        }
    }

    /// Resolvers may have asked any server just now.
    pub(super) fn remember(&self, s: &mut State) {
        let tick = super::store::TICK as u32;
        let (ttl, negative) = (self.kernel.times.ttl / tick, self.kernel.times.negative_ttl / tick);
        for slot in 0..NAMES {
            for server in [0, 1] {
                let answer = s.served[server][slot];
                let left =
                    u8::try_from(if answer == Heard::Nothing { negative } else { ttl }).expect("small");
                match s.caches[slot].iter_mut().find(|(held, _)| *held == answer) {
                    Some(entry) => entry.1 = left,
                    None => s.caches[slot].push((answer, left)),
                }
            }
            s.caches[slot].sort_unstable();
        }
    }
}
