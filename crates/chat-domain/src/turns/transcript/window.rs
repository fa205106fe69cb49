//! How much of a conversation the agent reads: always whole turns, never less than the current one.

use super::{Entry, Transcript, ended_turn, entries, size};
use crate::{Item, LoggedTurn};

/// A conversation as the agent may read it: the earlier turns that are not superseded, and the
/// current turn.
pub struct Window {
    /// The entries of each turn, the current one last.
    turns: Vec<Vec<Entry>>,
    /// How many tokens each turn is counted as.
    sizes: Vec<usize>,
    /// How many of the oldest turns are left out.
    left_out: usize,
    /// How many turns the agent did not read for the conversation's last complete answer.
    left_out_before: usize,
}

impl Window {
    /// Everything, for the turn with the items `current` after the turns of `history`.
    pub fn new(history: &[LoggedTurn], current: &[Item]) -> Self {
        let counted = || history.iter().filter(|log| !log.turn.superseded);
        let mut turns: Vec<Vec<Entry>> = counted().map(ended_turn).collect();
        turns.push(entries(current));
        let last_answer = counted().rev().find(|log| log.turn.finish.is_some());
        let left_out_before = last_answer.map_or(0, |log| {
            usize::try_from(log.turn.turns_left_out).unwrap_or(usize::MAX)
        });
        let sizes = turns
            .iter()
            .map(|entries| entries.iter().map(size).sum())
            .collect();
        Self {
            turns,
            sizes,
            left_out: 0,
            left_out_before,
        }
    }

    /// Leaves out the oldest turns until the rest fits into `budget` tokens, or is the current turn
    /// alone.
    ///
    /// The cut moves on in strides of a quarter of the budget, so that the text before a turn stays
    /// the same for many turns.
    pub fn fit(&mut self, budget: usize) {
        self.leave_out(self.over(budget));
    }

    /// Leaves out at least so many of the oldest turns, but never the current one.
    pub fn leave_out(&mut self, turns: usize) {
        self.left_out = self.left_out.max(turns).min(self.earlier());
    }

    /// How many of the oldest turns are left out.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// How many of the oldest turns to leave out after the agent has refused to read this much;
    /// `None` if this was the current turn alone.
    ///
    /// After the first refusal: as many as the token `limit` that the agent named requires; without
    /// a limit, as many as were left out for its last answer, so that the text before the current
    /// turn stays the same. Otherwise half of those that are left. So an agent is asked at most
    /// log2(turns) + 3 times.
    pub fn shorter(&self, refusals: usize, limit: Option<usize>) -> Option<usize> {
        let kept = self.earlier() - self.left_out;
        if kept == 0 {
            return None;
        }
        let more = |turns: &usize| *turns > self.left_out;
        let named = limit.map(|limit| self.over(limit)).filter(more);
        let before = Some(self.left_out_before.min(self.earlier())).filter(more);
        let guess = if refusals == 1 {
            named.or(before)
        } else {
            None
        };
        Some(guess.unwrap_or(self.left_out + kept.div_ceil(2)))
    }

    /// Takes out what is left, in order.
    pub fn take_transcript(&mut self) -> Transcript {
        Transcript(
            std::mem::take(&mut self.turns)
                .into_iter()
                .skip(self.left_out)
                .flatten()
                .collect(),
        )
    }

    /// How many turns there are before the current one.
    fn earlier(&self) -> usize {
        self.sizes.len().saturating_sub(1)
    }

    /// How many of the oldest turns have to go, so that the rest fits.
    fn over(&self, budget: usize) -> usize {
        let total: usize = self.sizes.iter().sum();
        if total <= budget {
            return 0;
        }
        let stride = (budget / 4).max(1);
        let cut_at = (total - budget).div_ceil(stride) * stride;
        let mut start = 0;
        let begin_before_cut = |size: &&usize| {
            let begins_before = start < cut_at;
            start += **size;
            begins_before
        };
        self.sizes
            .iter()
            .take(self.earlier())
            .take_while(begin_before_cut)
            .count()
    }
}
