//! What is known of conversations and turns, to do something with them.

use fastrand::Rng;
use uuid::Uuid;

/// A conversation that has so many turns is left alone: transcripts would only grow.
const FULL: u32 = 14;

#[derive(Default)]
pub struct Book {
    /// User, conversation, messages sent there.
    conversations: Vec<(String, Uuid, u32)>,
    /// User, turn, what was asked.
    turns: Vec<(String, Uuid, String)>,
}

impl Book {
    pub fn add(&mut self, user: &str, conversation: Uuid, turn: Uuid, asked: &str) {
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
            self.turns.push((user.to_owned(), turn, asked.to_owned()));
        }
    }

    /// A conversation of this user that is not full.
    pub fn conversation(&self, user: &str, rng: &mut Rng) -> Option<Uuid> {
        let own = self
            .conversations
            .iter()
            .filter(|(owner, _, sent)| owner == user && *sent < FULL)
            .rev()
            .take(4);
        any(rng, own).map(|(_, id, _)| *id)
    }

    /// Any conversation of this user.
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

    /// A young turn of this user, and what was asked in it.
    pub fn turn(&self, user: &str, rng: &mut Rng) -> Option<(Uuid, String)> {
        any(
            rng,
            self.turns
                .iter()
                .filter(|(owner, ..)| owner == user)
                .rev()
                .take(10),
        )
        .map(|(_, id, asked)| (*id, asked.clone()))
    }

    /// A conversation and a turn of somebody else.
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
