import { useEffect, useMemo, useState } from 'preact/hooks';
import type { Conversation } from '../api/types';
import { embedded, settings, signOut, token } from '../session/session';
import { go, open, pathOf, remove, running } from '../state/conversation';
import { busy, hasMore, listed, listTrouble, loadList, loadMore, rename, shown } from '../state/list';
import { MenuButton, Rename } from './bits';
import { download } from './export';
import { exact, group, initials, short } from './format';
import { Cross, Dots, Download, Keyboard, Leave, Mark, Pencil, Plus, Search, Trash } from './icons';
import { showShortcuts } from './shortcuts';
import { ThemeSwitch } from './theme';

export const entries = (conversation: Conversation, edit: () => void) => [
  { label: 'Rename', icon: <Pencil size={16} />, run: edit },
  { label: 'Export as Markdown', icon: <Download size={16} />, run: () => void download(conversation, 'markdown') },
  { label: 'Export as JSON', icon: <Download size={16} />, run: () => void download(conversation, 'json') },
  { label: 'Delete', icon: <Trash size={16} />, danger: true, run: () => remove(conversation.id) },
];

function Row({ conversation, active, pick }: { conversation: Conversation; active: boolean; pick: () => void }) {
  const [edit, setEdit] = useState(false);
  const runs = active ? running.value !== null : busy.value.has(conversation.id);
  if (edit) {
    const save = (title: string | null) => {
      setEdit(false);
      if (title !== null) void rename(conversation.id, title);
    };
    return (
      <li class={active ? 'row active' : 'row'}>
        <Rename title={conversation.title} save={save} />
      </li>
    );
  }
  return (
    <li class={active ? 'row active' : 'row'}>
      <a
        href={pathOf(conversation.id)}
        class="pick"
        aria-current={active ? 'page' : undefined}
        title={conversation.title}
        onClick={(event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey) return;
          event.preventDefault();
          pick();
        }}
        onDblClick={() => setEdit(true)}
      >
        <span class="title" dir="auto">
          {conversation.title}
        </span>
        {runs && (
          <span class="flag run">
            <span class="sr">an answer is being written</span>
          </span>
        )}
        <time dateTime={conversation.updated_at} title={exact(conversation.updated_at)}>
          {short(conversation.updated_at)}
        </time>
      </a>
      <MenuButton label={`More for ${conversation.title}`} class="icon-btn more" entries={entries(conversation, () => setEdit(true))}>
        <Dots size={17} />
      </MenuButton>
    </li>
  );
}

/** What is looked for must be read: pages are, one after another, until the end of the list. */
function useWholeList(wanted: boolean) {
  const more = hasMore.value;
  const length = shown.value.length;
  useEffect(() => {
    if (wanted && more) void loadMore();
  }, [wanted, more, length]);
}

export function Sidebar({ onClose }: { onClose: () => void }) {
  const [words, setWords] = useState('');
  const list = shown.value;
  const active = open.value.id.value;
  const needle = words.trim().toLocaleLowerCase();
  useWholeList(needle !== '');
  const groups = useMemo(() => {
    const found = new Map<string, Conversation[]>();
    for (const conversation of list) {
      if (!conversation.title.toLocaleLowerCase().includes(needle)) continue;
      const name = group(conversation.updated_at);
      const members = found.get(name) ?? [];
      members.push(conversation);
      found.set(name, members);
    }
    return [...found];
  }, [list, needle]);
  const pick = (id: string | null) => {
    go(id);
    onClose();
  };
  const nearEnd = (event: Event) => {
    const rows = event.currentTarget as HTMLElement;
    if (hasMore.peek() && rows.scrollHeight - rows.scrollTop - rows.clientHeight < 400) void loadMore();
  };
  const name = token.value?.name ?? '';
  return (
    <nav class="side" aria-label="Conversations">
      <div class="side-top">
        <a
          class="brand"
          href={pathOf(null)}
          onClick={(event) => {
            event.preventDefault();
            pick(null);
          }}
        >
          <Mark size={26} />
          <span>{settings.value?.agent_name ?? ''}</span>
        </a>
        <button type="button" class="icon-btn only-narrow" aria-label="Close the list of conversations" onClick={onClose}>
          <Cross />
        </button>
      </div>
      <button type="button" class="new" onClick={() => pick(null)}>
        <Plus size={17} /> New chat
      </button>
      <label class="find">
        <span class="sr">Find a conversation</span>
        <Search size={16} />
        <input id="find" type="search" placeholder="Find a chat" value={words} onInput={(event) => setWords(event.currentTarget.value)} />
      </label>
      <div class="rows" onScroll={nearEnd}>
        {listTrouble.value && (
          <div class="state small" role="alert">
            <p>{listTrouble.value}</p>
            <button type="button" class="btn" onClick={() => void loadList()}>
              Try again
            </button>
          </div>
        )}
        {groups.map(([title, members]) => (
          <section key={title} aria-label={title}>
            <h2>{title}</h2>
            <ul>
              {members.map((conversation) => (
                <Row
                  key={conversation.id}
                  conversation={conversation}
                  active={conversation.id === active}
                  pick={() => pick(conversation.id)}
                />
              ))}
            </ul>
          </section>
        ))}
        {groups.length === 0 && listed.value && (
          <p class="faint none" role="status">
            {needle ? (hasMore.value ? 'Looking…' : `No conversation is called “${words.trim()}”.`) : 'Your conversations will show here.'}
          </p>
        )}
      </div>
      <div class="side-foot">
        <span class="avatar" aria-hidden="true">
          {initials(name)}
        </span>
        <span class="me" dir="auto">
          {name}
        </span>
        <button
          type="button"
          class="icon-btn only-wide"
          aria-label="Keyboard shortcuts"
          title="Keyboard shortcuts (?)"
          onClick={showShortcuts}
        >
          <Keyboard size={17} />
        </button>
        <ThemeSwitch />
        {!embedded && (
          <button type="button" class="icon-btn" aria-label="Sign out" title="Sign out" onClick={signOut}>
            <Leave size={17} />
          </button>
        )}
      </div>
    </nav>
  );
}
