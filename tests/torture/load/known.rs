//! Known conversations and turns, for further requests.

use fastrand::Rng;
use uuid::Uuid;

/// A conversation with this many turns gets no more messages, because transcripts would only grow.
const FULL: u32 = 14;

#[derive(Default)]
pub struct KnownIds {
    /// User, conversation, number of messages.
    conversations: Vec<(String, Uuid, u32)>,
    /// User, turn, message.
    turns: Vec<(String, Uuid, String)>,
}

impl KnownIds {
    pub fn add(&mut self, user: &str, conversation: Uuid, turn: Uuid, question: &str) {
        match self
            .conversations
            .iter_mut()
            .find(|(_, id, _)| *id == conversation)
        {
            Some((.., sent)) => *sent += 1,
            None => self.conversations.push((user.to_owned(), conversation, 1)),
        }
        if self
            .turns
            .iter()
            .rev()
            .take(50)
            .all(|(_, id, _)| *id != turn)
        {
            self.turns
                .push((user.to_owned(), turn, question.to_owned()));
        }
    }

    /// Returns a conversation of this user that is not full.
    pub fn conversation(&self, user: &str, rng: &mut Rng) -> Option<Uuid> {
        let own = self
            .conversations
            .iter()
            .filter(|(owner, _, sent)| owner == user && *sent < FULL)
            .rev()
            .take(4);
        any(rng, own).map(|(_, id, _)| *id)
    }

    /// Returns any conversation of this user.
    pub fn any_conversation(&self, user: &str, rng: &mut Rng) -> Option<Uuid> {
        any(
            rng,
            self.conversations
                .iter()
                .filter(|(owner, ..)| owner == user)
                .rev()
                .take(12),
        )
        .map(|(_, id, _)| *id)
    }

    /// Returns a recent turn of this user, with its message.
    pub fn turn(&self, user: &str, rng: &mut Rng) -> Option<(Uuid, String)> {
        any(
            rng,
            self.turns
                .iter()
                .filter(|(owner, ..)| owner == user)
                .rev()
                .take(10),
        )
        .map(|(_, id, question)| (*id, question.clone()))
    }

    /// Returns a conversation and a turn of another user.
    pub fn of_another(&self, user: &str, rng: &mut Rng) -> Option<(String, Uuid, Uuid)> {
        let (owner, turn, _) = any(
            rng,
            self.turns
                .iter()
                .filter(|(owner, ..)| owner != user)
                .rev()
                .take(40),
        )?;
        Some((owner.clone(), self.any_conversation(owner, rng)?, *turn))
    }
}

fn any<'a, T>(rng: &mut Rng, of: impl Iterator<Item = &'a T>) -> Option<&'a T> {
    rng.choice(of.collect::<Vec<_>>())
}
