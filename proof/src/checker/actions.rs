//! What can happen in a state.

use super::world::faults;
use super::world::{LEAP, Life, LinkSeen, NAMES, Slow, State, Story, World};

/// Which servers fail a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sky {
    /// None.
    Clear,
    /// One of ours.
    OneSilent(usize),
    /// All of ours.
    OursSilent,
    /// The tenant's.
    TenantUnclear,
    /// None, but the tenant's show copies of the keys where there are CNAMEs.
    TenantHides,
}

/// On what a reconcile rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    /// A look made now.
    Fresh(Sky),
    /// The look that was kept.
    Kept,
    /// None: just started.
    Blind,
}

/// Where the controller dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Crash {
    /// Nowhere.
    Never,
    /// After the mark.
    AfterMark,
    /// After the Secret.
    AfterSecret,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes.
    Tick,
    /// One of our servers hears of the record set.
    Serve(usize),
    /// A whole reconcile, or the part before a crash.
    Reconcile(Sight, Crash),
    /// A look is made and kept.
    KeepLook,
    /// The second controller reads the record set.
    SlowRead,
    /// It reads the Secret and decides.
    SlowDecide(Sight),
    /// It does its next write.
    SlowWrite,
    /// It dies.
    SlowDies,
    /// The Secret is deleted by hand.
    LoseSecret,
    /// The record set is deleted by hand.
    LoseSet,
    /// The keys fall into the wrong hands, and the user says so.
    Compromise,
    /// A signer that reports does not hear of a switch.
    Lag(usize),
    /// It does at last.
    CatchUp(usize),
    /// The user gives the domain another name at the provider, or its old one.
    Relocate(bool),
    /// The second signature is wanted or not.
    Double(bool),
    /// A private key is taken out of the Secret by hand.
    LoseKey(usize),
    /// The tenant changes a CNAME.
    SetLink(usize, LinkSeen),
    /// The tenant pauses or resumes.
    Pause(bool),
    /// The tenant enables or disables.
    Enable(bool),
    /// The tenant asks for a rotation now.
    Request,
    /// The tenant asks for another kind of key.
    OtherKind,
    /// The clocks of the controller's machine and of the API server are set back together.
    ClockBack,
    /// That of the controller's machine leaps, so many ticks ahead, and is right again some time later.
    ClockLeap(i8),
    /// The DkimDomain is deleted.
    Delete,
    /// The same, and everything goes with it.
    Erase,
    /// The same, and its keys are left behind.
    Orphan,
    /// The controller takes the next step of letting it go.
    LetGo,
    /// What has drained is swept away.
    Sweep,
    /// The DkimDomain is made again.
    Recreate,
}

impl World {
    /// What can happen in a state.
    pub(super) fn possible(&self, s: &State, actions: &mut Vec<Action>) {
        let may = |kind: u16| s.faults > 0 && self.kinds & kind != 0;
        if !self.is_withdrawing(s) {
            actions.push(Action::Tick);
        }
        if !s.unset {
            actions.extend(self.servers());
        }
        match s.life {
            Life::Present => self.controllers(s, actions),
            Life::Leaving | Life::Erasing => actions.push(Action::LetGo),
            Life::Orphaned => actions.push(Action::Recreate),
            Life::Gone => {
                actions.push(Action::Recreate);
                actions.extend(s.set.map(|_| Action::Sweep));
            }
        }
        match s.slow {
            Some(Slow::Reading { .. }) if s.life == Life::Present => {
                actions.extend([Action::SlowDecide(Sight::Fresh(Sky::Clear)), Action::SlowDies]);
                if s.kept.is_some() {
                    actions.push(Action::SlowDecide(Sight::Kept));
                }
            }
            Some(Slow::Writing { .. }) => actions.extend([Action::SlowWrite, Action::SlowDies]),
            Some(Slow::Reading { .. }) => actions.push(Action::SlowDies),
            None => {}
        }
        for i in [0, 1] {
            if may(faults::TENANT) {
                for wrong in [LinkSeen::Missing, LinkSeen::Wrong] {
                    if s.links[i].now != wrong {
                        actions.push(Action::SetLink(i, wrong));
                    }
                }
            }
            if may(faults::LOSS) && s.secret.is_some() {
                actions.push(Action::LoseKey(i));
            }
        }
        for i in 0..NAMES {
            if let Some(shown) = self.shown(s, i).filter(|shown| *shown != s.links[i].now) {
                actions.push(Action::SetLink(i, shown));
            }
            if may(faults::LAG) && s.used.iter().any(|u| usize::from(u.name) == i && self.may_lag(s, u)) {
                actions.push(Action::Lag(i));
            }
            if s.used.iter().any(|u| usize::from(u.name) == i && u.lags) {
                actions.push(Action::CatchUp(i));
            }
        }
        if s.life == Life::Present && may(faults::LOSS) && self.set_is_known(s) {
            actions.push(Action::LoseSet);
        }
        if may(faults::COMPROMISE) && s.life == Life::Present && s.secret.is_some() {
            actions.push(Action::Compromise);
        }
        if may(faults::MOVE) && s.life == Life::Present && s.secret.is_some() {
            // A signer can trail behind the way there as well as behind the way back.
            let there = self.story == Story::Trailing;
            actions.extend([!s.spec.away].into_iter().filter(|away| *away || !there).map(Action::Relocate));
        }
        if self.story == Story::Doubled && !s.spec.second {
            actions.push(Action::Double(true));
        }
        if s.spec.paused && !self.story.moves() {
            actions.push(Action::Pause(false));
        }
        if !s.spec.enabled && self.story != Story::Trailing {
            actions.push(Action::Enable(true));
        }
        if may(faults::EDIT) {
            let doubled = self.story == Story::Doubled;
            actions.push(if doubled { Action::Double(false) } else { Action::OtherKind });
            if !doubled || self.large {
                actions.push(Action::Request);
                actions.extend((!s.spec.paused).then_some(Action::Pause(true)));
                actions.extend(s.spec.enabled.then_some(Action::Enable(false)));
            }
        }
        if may(faults::LOSS) && s.secret.is_some() {
            actions.push(Action::LoseSecret);
        }
        if may(faults::CLOCK) && s.clock == 0 {
            actions.extend([Action::ClockBack, Action::ClockLeap(LEAP), Action::ClockLeap(-LEAP)]);
        }
        if may(faults::DELETE) && s.life == Life::Present {
            if self.story == Story::Orphaned {
                actions.push(Action::Orphan);
            } else {
                actions.extend([Action::Delete, Action::Erase]);
            }
        }
        if may(faults::STALE) && s.set.is_some() && s.kept.is_none() {
            actions.push(Action::KeepLook);
        }
    }

    fn controllers(&self, s: &State, actions: &mut Vec<Action>) {
        let one_silent = [0, 1].map(Sky::OneSilent);
        let skies = [Sky::Clear, Sky::OursSilent, Sky::TenantUnclear, Sky::TenantHides];
        let skies = skies.into_iter().chain(one_silent);
        let few = self.story.moves() || self.story == Story::Doubled;
        let seen = |sky: &Sky| match sky {
            Sky::Clear => true,
            Sky::TenantUnclear => self.large || !matches!(self.story, Story::Doubled | Story::Rolled),
            Sky::TenantHides => self.story == Story::Hidden,
            Sky::OneSilent(_) | Sky::OursSilent => !few || self.story == Story::CalledOff,
        };
        let skies = skies.filter(seen);
        actions.extend(skies.map(|sky| Action::Reconcile(Sight::Fresh(sky), Crash::Never)));
        if !few {
            actions.push(Action::Reconcile(Sight::Blind, Crash::Never));
        }
        if s.kept.is_some() {
            actions.push(Action::Reconcile(Sight::Kept, Crash::Never));
        }
        // What is without a move is gone through elsewhere.
        let begun = self.story != Story::CalledOff || s.faults < self.faults;
        if s.faults > 0 && self.kinds & faults::CRASH != 0 && begun {
            let fresh = Sight::Fresh(Sky::Clear);
            actions
                .extend([Crash::AfterMark, Crash::AfterSecret].map(|crash| Action::Reconcile(fresh, crash)));
        }
        if s.faults > 0 && self.kinds & faults::SECOND != 0 && s.slow.is_none() && s.set.is_some() {
            actions.push(Action::SlowRead);
        }
    }
}
