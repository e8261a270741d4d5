//! Deletions that happen while a watch begins anew: what its new list does not have any more.

use std::collections::HashMap;
use std::hash::Hash;

use kube::runtime::watcher::Event;

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News<K, T> {
    /// It is there, or was just deleted: as the watch saw it last.
    Seen(T),
    /// It was there before the watch was interrupted and is not there any more, or what is kept of it is another now.
    Gone(K),
}

/// Follows a watch. `K` is what is kept of each object.
#[derive(Debug)]
pub struct Relist<I, K> {
    known: HashMap<I, K>,
    listing: Option<HashMap<I, K>>,
}

impl<I, K> Default for Relist<I, K> {
    fn default() -> Self {
        Self { known: HashMap::new(), listing: None }
    }
}

impl<I: Eq + Hash, K: PartialEq> Relist<I, K> {
    /// Takes what the watch says. `of` gives an object's identity and what is to be kept of it.
    pub fn follow<T>(&mut self, event: Event<T>, of: impl Fn(&T) -> (I, K)) -> Vec<News<K, T>> {
        match event {
            Event::Init => {
                self.listing = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let (id, kept) = of(&object);
                self.listing.get_or_insert_default().insert(id, kept);
                vec![News::Seen(object)]
            }
            Event::InitDone => {
                let Some(listed) = self.listing.take() else { return Vec::new() };
                let before = std::mem::replace(&mut self.known, listed);
                let gone = before.into_iter().filter(|(id, kept)| self.known.get(id) != Some(kept));
                gone.map(|(_, kept)| News::Gone(kept)).collect()
            }
            Event::Apply(object) => {
                let (id, kept) = of(&object);
                let other = self.known.get(&id).is_some_and(|before| *before != kept);
                let before = self.known.insert(id, kept).filter(|_| other).map(News::Gone);
                before.into_iter().chain([News::Seen(object)]).collect()
            }
            Event::Delete(object) => {
                self.known.remove(&of(&object).0);
                vec![News::Seen(object)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_it_may_become_another() {
        let mut watch = Relist::default();
        let mut follow = |event| watch.follow(event, |(id, kept): &(u8, u8)| (*id, *kept));
        assert_eq!(follow(Event::Apply((1, 7))), [News::Seen((1, 7))]);
        assert_eq!(follow(Event::Apply((1, 7))), [News::Seen((1, 7))]);
        assert_eq!(follow(Event::Apply((1, 8))), [News::Gone(7), News::Seen((1, 8))]);
        follow(Event::Init);
        follow(Event::InitApply((1, 9)));
        assert_eq!(follow(Event::InitDone), [News::Gone(8)]);
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let mut watch = Relist::default();
        let mut follow = |event| watch.follow(event, |name: &&'static str| (*name, name.len()));
        follow(Event::Init);
        assert_eq!(follow(Event::InitApply("a")), [News::Seen("a")]);
        follow(Event::InitApply("bb"));
        assert!(follow(Event::InitDone).is_empty(), "the first list lacks nothing");
        follow(Event::Apply("ccc"));
        follow(Event::Delete("a"));
        // An interrupted list is begun again.
        follow(Event::Init);
        follow(Event::Init);
        follow(Event::InitApply("dddd"));
        follow(Event::InitApply("bb"));
        assert_eq!(follow(Event::InitDone), [News::Gone(3)]);
        follow(Event::Init);
        follow(Event::InitApply("dddd"));
        assert_eq!(follow(Event::InitDone), [News::Gone(2)]);
    }
}
