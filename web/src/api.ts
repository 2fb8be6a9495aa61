// The API's requests, with the types of its OpenAPI description. Answers are read by stream.ts.

import { Refused } from "./stream";
import type { components } from "./schema";
import { texts } from "./texts";

export type Conversation = components["schemas"]["Conversation"];
export type Message = components["schemas"]["Message"];
export type Opened = components["schemas"]["ConversationWithMessages"];
export type Page = components["schemas"]["ConversationPage"];
export type Change = Partial<
  Pick<Conversation, "title" | "model_tag" | "is_favorited" | "instructions" | "options" | "tags">
>;

/** A hit of a search. `message` is null if the title matches. */
export interface Found {
  conversation: Conversation;
  message: { id: string; role: string; created_at: string } | null;
  snippet: string;
  /** Start and end of each match in the snippet, in code points. */
  matches: [number, number][];
}

export interface FoundPage {
  items: Found[];
  next_cursor: string | null;
}

/** The models of all engines. `source` is the engine, unless there is only samosaChaat's own. */
export interface Models {
  current_model: string | null;
  models: { model_tag: string; source: string; available: boolean; loaded: boolean }[];
}

/** No response: no network, or no service behind it. */
export class Unreachable extends Error {}

const DEADLINE_MS = 20_000;

export class Api {
  constructor(
    readonly url: string,
    /** The current token; "" when signed out. */
    private readonly token: () => string,
    /** Called with every outcome, so that one module knows whether the service is reachable. */
    private readonly outcome: (error?: Unreachable | Refused) => void = () => undefined,
  ) {}

  conversations(query: {
    limit: number;
    tz: string;
    cursor?: string | undefined;
    favorited?: true | undefined;
    tag?: string | undefined;
  }): Promise<Page> {
    return this.json("GET", `/api/conversations?${search(query)}`);
  }

  async tags(): Promise<string[]> {
    return (await this.json<components["schemas"]["Tags"]>("GET", "/api/tags")).items;
  }

  search(query: { q: string; limit: number; cursor?: string | undefined }): Promise<FoundPage> {
    return this.json("GET", `/api/search?${search(query)}`);
  }

  /** Whether the service accepts this token. Throws any other error. */
  async accepts(token: string): Promise<boolean> {
    try {
      await this.request("GET", "/api/conversations?limit=1", { token });
      return true;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return false;
      throw error;
    }
  }

  create(body: { model_tag?: string } = {}): Promise<Conversation> {
    return this.json("POST", "/api/conversations", body);
  }

  open(id: string, query: { limit: number; before?: string | undefined }): Promise<Opened> {
    return this.json("GET", `/api/conversations/${id}?${search(query)}`);
  }

  change(id: string, change: Change): Promise<Conversation> {
    return this.json("PATCH", `/api/conversations/${id}`, change);
  }

  /** `keepalive`: the request is sent even while the page is being closed. */
  async delete(id: string, keepalive = false): Promise<void> {
    await this.request("DELETE", `/api/conversations/${id}`, { keepalive });
  }

  /** The shown path of a conversation as a Markdown file, and the file's name. */
  async export(id: string): Promise<{ file: Blob; name: string }> {
    const path = `/api/conversations/${id}/export?format=markdown`;
    const response = await this.request("GET", path, { deadline: 0 });
    const file = await response.blob().catch(() => {
      throw this.unreachable();
    });
    const header = response.headers.get("Content-Disposition") ?? "";
    const name = /filename\*=UTF-8''([^;]+)/i.exec(header)?.[1];
    return { file, name: name ? decodeURIComponent(name) : "conversation.md" };
  }

  stop(id: string): Promise<Message> {
    return this.json("POST", `/api/conversations/${id}/stop`);
  }

  /** The versions of a message, oldest first; the newest page without `before`. */
  versions(
    id: string,
    message: string,
    before?: string,
  ): Promise<{ items: (Message & { shown: boolean })[]; next_before: string | null }> {
    return this.json(
      "GET",
      `/api/conversations/${id}/messages/${message}/versions?${search({ before })}`,
    );
  }

  /** Shows the path through a message. */
  show(id: string, message: string): Promise<Opened> {
    return this.json("PUT", `/api/conversations/${id}/path`, { message_id: message });
  }

  /** Deletes a message and everything below it. */
  async deleteMessage(id: string, message: string): Promise<void> {
    await this.request("DELETE", `/api/conversations/${id}/messages/${message}`);
  }

  models(): Promise<Models> {
    return this.json("GET", "/api/models");
  }

  /** May take minutes. */
  async swap(tag: string): Promise<void> {
    await this.request("POST", "/api/models/swap", { body: { model_tag: tag }, deadline: 0 });
  }

  /** Whether the service responds. */
  async reachable(): Promise<boolean> {
    const signal = AbortSignal.timeout(5_000);
    return fetch(`${this.url}/api/health`, { signal, cache: "no-store" }).then(
      (response) => response.ok,
      () => false,
    );
  }

  private async json<T>(method: string, path: string, body?: object): Promise<T> {
    const response = await this.request(method, path, body && { body });
    return response.json().catch((error: unknown) => {
      if (!(error instanceof SyntaxError)) throw this.unreachable();
      throw new Refused(502, "not_json", texts.peek().service.notTheService, 0);
    }) as Promise<T>;
  }

  private unreachable(): Unreachable {
    const error = new Unreachable(texts.peek().service.unreachable);
    this.outcome(error);
    return error;
  }

  private async request(
    method: string,
    path: string,
    options: { body?: object; keepalive?: boolean; deadline?: number; token?: string } = {},
  ): Promise<Response> {
    const { body, keepalive = false, deadline = DEADLINE_MS, token = this.token() } = options;
    const headers: Record<string, string> = { Authorization: `Bearer ${token}` };
    if (body) headers["Content-Type"] = "application/json";
    let response: Response;
    try {
      response = await fetch(this.url + path, {
        method,
        headers,
        keepalive,
        body: body ? JSON.stringify(body) : null,
        signal: deadline ? AbortSignal.timeout(deadline) : null,
      });
    } catch {
      throw this.unreachable();
    }
    const refusal = response.ok ? undefined : await Refused.from(response);
    this.outcome(refusal);
    if (refusal) throw refusal;
    return response;
  }
}

function search(query: Record<string, string | number | boolean | undefined>): URLSearchParams {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
}
