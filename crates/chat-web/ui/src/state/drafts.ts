import { userId } from '../session/session';
import { store, stored } from '../session/storage';
import { unique } from '../session/unique';

/** A message that the server has not acknowledged. */
export interface Draft {
  text: string;
  /** The key it is sent with: if it did reach the server, sending it once more sends nothing twice. */
  key: string;
}

/*
 * What was written, by conversation: the draft is being written, the outbox is on its way. Both are kept through reloads and sign-ins
 * until the server has acknowledged the message.
 */
type Kind = 'draft' | 'outbox';

const kept = new Map<string, Draft>();
const nameOf = (kind: Kind, conversation: string | null) => `chat.${kind}.${userId()}.${conversation ?? 'new'}`;

function get(name: string): Draft | null {
  const known = kept.get(name);
  if (known) return known;
  try {
    const read: unknown = JSON.parse(stored(name) ?? 'null');
    if (typeof read === 'object' && read !== null && 'text' in read && 'key' in read)
      return { text: String(read.text), key: String(read.key) };
  } catch {
    // Not one of ours.
  }
  return null;
}

function put(name: string, draft: Draft | null) {
  if (draft) kept.set(name, draft);
  else kept.delete(name);
  store(name, draft && JSON.stringify(draft));
}

export const draftOf = (conversation: string | null) => get(nameOf('draft', conversation));

/** Another text is another message, with a key of its own. */
export function keepDraft(conversation: string | null, text: string): Draft {
  const old = draftOf(conversation);
  const draft = old?.text === text ? old : { text, key: unique() };
  put(nameOf('draft', conversation), text === '' ? null : draft);
  return draft;
}

export const outboxOf = (conversation: string | null) => get(nameOf('outbox', conversation));

export function toOutbox(conversation: string | null, draft: Draft) {
  put(nameOf('outbox', conversation), draft);
  if (draftOf(conversation)?.key === draft.key) put(nameOf('draft', conversation), null);
}

export function acknowledged(conversation: string | null) {
  put(nameOf('outbox', conversation), null);
}

/** What was written for a conversation that was new belongs to what that has become. */
export function begunAs(conversation: string) {
  const draft = draftOf(null);
  if (!draft) return;
  put(nameOf('draft', null), null);
  put(nameOf('draft', conversation), draft);
}

/** What could not be sent is a draft again, before whatever was written since. */
export function giveBack(conversation: string | null) {
  const back = outboxOf(conversation);
  if (!back) return;
  const since = draftOf(conversation);
  put(nameOf('outbox', conversation), null);
  put(nameOf('draft', conversation), since ? { text: `${back.text}\n\n${since.text}`, key: unique() } : back);
}
