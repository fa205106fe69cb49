// A front end without a user interface. It has the methods and events of OpenAI's component, typed by `@openai/chatkit`, and uses them with a server.
//
//   CHAT_URL=http://127.0.0.1:8080/chatkit CHAT_TOKEN=… node dist/client.js

import assert from "node:assert/strict";

import type { ChatKitEvents, CustomApiConfig, OpenAIChatKit, UserMessageContent } from "@openai/chatkit";

type Driven = Pick<OpenAIChatKit, "setThreadId" | "sendUserMessage" | "sendCustomAction" | "fetchUpdates">;

interface Item {
  id: string;
  type: string;
  content?: { type: string; text: string }[];
  workflow?: { tasks: { title?: string; content?: string; status_indicator: string }[] };
  task?: { title?: string };
}

interface Page<T> {
  data: T[];
  has_more: boolean;
}

interface Thread {
  id: string;
  title?: string;
  items: Page<Item>;
}

interface Event {
  type: string;
  thread?: Thread;
  item?: Item;
  item_id?: string;
  update?: { type: string; delta?: string; content?: { type: string; text: string }; task_index?: number; task?: { status_indicator: string } };
  stream_options?: { allow_cancel: boolean };
  message?: string;
}

/** The component's state of a thread, updated as the component does it. */
class FrontEnd extends EventTarget implements Driven {
  thread: string | null = null;
  title: string | undefined;
  items: Item[] = [];
  errors: string[] = [];
  allowCancel = false;
  #api: CustomApiConfig;
  #running: AbortController | undefined;

  constructor(api: CustomApiConfig) {
    super();
    this.#api = api;
  }

  async setThreadId(threadId: string | null): Promise<void> {
    this.thread = threadId;
    await this.fetchUpdates();
    this.#emit("chatkit.thread.change", { threadId });
  }

  async fetchUpdates(): Promise<void> {
    this.items = [];
    if (this.thread === null) return;
    const thread = await this.#ask<Thread>("threads.get_by_id", { thread_id: this.thread });
    this.title = thread.title;
    this.items = thread.items.data;
    for (let more = thread.items.has_more; more; ) {
      const after = this.items.at(-1)?.id;
      const page = await this.#ask<Page<Item>>("items.list", { thread_id: this.thread, limit: 9999, order: "asc", after });
      this.items.push(...page.data);
      more = page.has_more;
    }
  }

  async sendUserMessage(params: Parameters<OpenAIChatKit["sendUserMessage"]>[0]): Promise<void> {
    const text: UserMessageContent[] = params.text === undefined ? [] : [{ type: "input_text", text: params.text }];
    const input = {
      content: params.content ?? text,
      attachments: (params.attachments ?? []).map((attachment) => attachment.id),
      quoted_text: params.reply ?? "",
      inference_options: { model: params.model, tool_choice: params.toolChoice },
    };
    if (params.newThread) await this.setThreadId(null);
    await (this.thread === null
      ? this.#stream("threads.create", { input })
      : this.#stream("threads.add_user_message", { thread_id: this.thread, input }));
  }

  async sendCustomAction(action: { type: string; payload?: Record<string, unknown> }, itemId?: string): Promise<void> {
    await this.#stream("threads.custom_action", { thread_id: this.thread, item_id: itemId, action });
  }

  /** The retry button of a message. */
  async retry(itemId: string): Promise<void> {
    this.items.splice(this.items.findIndex((item) => item.id === itemId) + 1);
    await this.#stream("threads.retry_after_item", { thread_id: this.thread, item_id: itemId });
  }

  /** The stop button. */
  stop(): void {
    assert(this.allowCancel, "the button is not there");
    this.#running?.abort();
  }

  async feedback(kind: "positive" | "negative", itemIds: string[]): Promise<void> {
    await this.#ask("items.feedback", { thread_id: this.thread, item_ids: itemIds, kind });
  }

  async rename(title: string): Promise<void> {
    this.title = (await this.#ask<Thread>("threads.update", { thread_id: this.thread, title })).title;
  }

  async delete(): Promise<void> {
    await this.#ask("threads.delete", { thread_id: this.thread });
    this.thread = null;
  }

  async history(): Promise<Thread[]> {
    const threads: Thread[] = [];
    for (let more = true; more; ) {
      const page = await this.#ask<Page<Thread>>("threads.list", { limit: 9999, order: "desc", after: threads.at(-1)?.id });
      threads.push(...page.data);
      more = page.has_more;
    }
    return threads;
  }

  #emit<K extends keyof ChatKitEvents>(name: K, detail: ChatKitEvents[K]["detail"]): void {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #post(type: string, params: object, accept: string, signal?: AbortSignal): Promise<Response> {
    const headers = { "Content-Type": "application/json", "chatkit-frame-instance-id": frame, "Accept-Language": "en", Accept: accept };
    const init = { method: "POST", headers, body: JSON.stringify({ type, params }), signal: signal ?? null };
    return (this.#api.fetch ?? fetch)(this.#api.url, init);
  }

  async #ask<T>(type: string, params: object): Promise<T> {
    const response = await this.#post(type, params, "*/*");
    const body = await response.json();
    if (!response.ok) throw new Error(body.message ?? response.statusText);
    return body as T;
  }

  async #stream(type: string, params: object): Promise<void> {
    this.#running = new AbortController();
    this.#emit("chatkit.response.start", undefined);
    try {
      const response = await this.#post(type, params, "text/event-stream", this.#running.signal);
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("content-type"), "text/event-stream");
      let unread = "";
      for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
        const frames = (unread + chunk).split("\n\n");
        unread = frames.pop() ?? "";
        for (const frame of frames.filter((frame) => !frame.startsWith(":"))) {
          this.#apply(JSON.parse(frame.slice("data: ".length)) as Event);
        }
      }
      assert.equal(unread, "", "the stream was cut in a frame");
    } catch (error) {
      if (!this.#running.signal.aborted) throw error;
    } finally {
      this.allowCancel = false;
      this.#emit("chatkit.response.end", undefined);
    }
  }

  /** Applies an event to the state, as the component does it. */
  #apply(event: Event): void {
    const at = this.items.findIndex((item) => item.id === (event.item?.id ?? event.item_id));
    switch (event.type) {
      case "thread.created":
        assert(event.thread);
        this.thread = event.thread.id;
        this.title = event.thread.title;
        this.#emit("chatkit.thread.change", { threadId: event.thread.id });
        break;
      case "thread.updated":
        this.title = event.thread?.title;
        break;
      case "stream_options":
        this.allowCancel = event.stream_options?.allow_cancel ?? false;
        break;
      case "thread.item.added":
      case "thread.item.done":
        assert(event.item);
        if (at < 0) this.items.push(event.item);
        else this.items[at] = event.item;
        break;
      case "thread.item.removed":
        this.items.splice(at, 1);
        break;
      case "thread.item.updated": {
        const [item, update] = [this.items[at], event.update];
        assert(item && update, `an update of an item that is not there: ${JSON.stringify(event)}`);
        if (update.type === "assistant_message.content_part.added") item.content?.push(update.content!);
        else if (update.type === "assistant_message.content_part.text_delta") {
          assert(item.content?.[0], "a delta without its part");
          item.content[0].text += update.delta;
          this.dispatchEvent(new Event_("delta"));
        } else if (update.type === "assistant_message.content_part.done") {
          assert.equal(item.content?.[0]?.text, update.content?.text, "the deltas are not the text");
        } else if (update.type === "workflow.task.added" || update.type === "workflow.task.updated") {
          item.workflow!.tasks[update.task_index!] = update.task!;
        } else assert.fail(`an update that the component does not know: ${update.type}`);
        break;
      }
      case "error":
        this.errors.push(event.message ?? "");
        break;
      default:
        assert.fail(`an event that the component does not know: ${event.type}`);
    }
  }
}

const Event_ = globalThis.Event;
const frame = crypto.randomUUID();
const [url, token] = [process.env["CHAT_URL"], process.env["CHAT_TOKEN"]];
assert(url && token, "CHAT_URL and CHAT_TOKEN are needed");
const api: CustomApiConfig = {
  url,
  domainKey: "local-dev",
  fetch: (input, init) => {
    const headers = new Headers(init?.headers);
    headers.set("Authorization", `Bearer ${token}`);
    return fetch(input, { ...init, headers });
  },
};

const said = (item: Item | undefined): string => item?.content?.map((part) => part.text).join("") ?? "";
const shown = (front: FrontEnd): string => JSON.stringify(front.items);
const chat = new FrontEnd(api);
let changes = 0;
chat.addEventListener("chatkit.thread.change", () => changes++);

// A message that needs a tool: the stream and a reload show the same items.
await chat.sendUserMessage({ text: "Add task: Buy groceries" });
assert.equal(changes, 1);
assert.equal(chat.title, "Add task: Buy groceries");
const task = chat.items.find((item) => item.type === "workflow")?.workflow?.tasks[0];
assert.equal(task?.status_indicator, "complete");
assert.match(task?.content ?? "", /Buy groceries[\s\S]*created/);
assert.match(said(chat.items.at(-1)), /Buy groceries/);
const streamed = shown(chat);
await chat.fetchUpdates();
assert.equal(shown(chat), streamed);

// Rich content, a quotation, and its answer.
const content: UserMessageContent[] = [
  { type: "input_text", text: "Show my " },
  { type: "input_tag", id: "t", text: "tasks", data: {} },
];
await chat.sendUserMessage({ content });
assert.equal(said(chat.items.find((item) => said(item).startsWith("Show"))), "Show my tasks");

// A retry keeps the message and replaces its answer.
const question = chat.items.filter((item) => item.type === "user_message").at(-1);
const before = chat.items.at(-1)?.id;
await chat.retry(question!.id);
assert.notEqual(chat.items.at(-1)?.id, before);
const retried = shown(chat);
await chat.fetchUpdates();
assert.equal(shown(chat), retried);

await chat.feedback("positive", [chat.items.at(-1)!.id]);
await chat.rename("Groceries");
assert.deepEqual((await chat.history()).map((thread) => thread.title), ["Groceries"]);

// Unsupported requests return errors.
await chat.sendCustomAction({ type: "buy" });
assert.match(chat.errors.pop() ?? "", /no widgets/);
await chat.sendUserMessage({ text: "x".repeat(5001) });
assert.match(chat.errors.pop() ?? "", /5000|5,000/);

// A stop keeps the text and marks it.
chat.addEventListener("delta", () => chat.stop(), { once: true });
await chat.sendUserMessage({ text: "Show my tasks", newThread: true });
for (;;) {
  await chat.fetchUpdates();
  if (chat.items.at(-1)?.task?.title === "Stopped") break;
}
assert.equal(chat.items[0]?.type, "user_message");

assert.equal((await chat.history()).length, 2);
await chat.delete();
await assert.rejects(chat.setThreadId("thr_nowhere"), /conversation does not exist/);
assert.equal((await chat.history()).length, 1);
assert.deepEqual(chat.errors, []);
console.log("ok");
