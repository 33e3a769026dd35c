// A cluster made of scripts: what each socket and each lookup does is said by the test; time is counted, not waited for.

import type { Listener, Protoo, Socket } from '../src/protoo';
import { type Entry, type Member, Session, type Status, type Surroundings } from '../src/session';

/** What the server does on one socket. */
export type Script = (socket: FakeSocket) => void;

export class FakeSocket implements Socket {
  readyState = 0;
  onopen: (() => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  readonly url: string;
  readonly sent: Record<string, unknown>[] = [];
  /** With what the client closed it. */
  closedWith: number | undefined;

  constructor(url: string) {
    this.url = url;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(code?: number): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.closedWith = code;
  }

  accept(): this {
    this.readyState = 1;
    this.onopen?.();
    return this;
  }

  tell(method: string, data: object): this {
    return this.frame({ notification: true, method, data });
  }

  frame(frame: unknown): this {
    this.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
    return this;
  }

  end(code: number, reason = ''): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

export interface Answer {
  status: number;
  body: unknown;
  headers?: Record<string, string>;
}

export class Cluster {
  readonly sockets: FakeSocket[] = [];
  readonly lookups: string[] = [];
  readonly pauses: number[] = [];
  readonly history: Status[] = [];
  now = 0;
  private readonly scripts: Script[];
  private readonly answers: Answer[];

  /** The last script and the last answer serve all that come after. */
  constructor(scripts: Script[], answers: Answer[] = [placed()]) {
    this.scripts = scripts;
    this.answers = answers;
  }

  session(entry: Entry = { kind: 'lookup', schedulers: ['http://s1'] }, member = () => new FakeMember()): Session {
    const participant = { namespace: 'default', room: 'a b', peer: 'p1' };
    return new Session(participant, entry, member, (status) => this.history.push(status), this.surroundings());
  }

  /** The states in their order, repeated ones once. */
  states(): string[] {
    return this.history.map(({ state }) => state).filter((state, i, all) => state !== all[i - 1]);
  }

  surroundings(): Surroundings {
    return {
      openSocket: (url) => {
        const socket = new FakeSocket(url);
        this.sockets.push(socket);
        const script = this.scripts[Math.min(this.sockets.length, this.scripts.length) - 1];
        queueMicrotask(() => script?.(socket));
        return socket;
      },
      fetch: async (url) => {
        this.lookups.push(url);
        const answer = this.answers[Math.min(this.lookups.length, this.answers.length) - 1];
        if (!answer || answer.status === 0) throw new TypeError('fetch failed');
        return new Response(JSON.stringify(answer.body), { status: answer.status, headers: answer.headers ?? {} });
      },
      random: () => 0.5,
      now: () => this.now,
      sleep: async (ms) => {
        this.pauses.push(ms);
        this.now += ms;
      },
    };
  }
}

export class FakeMember implements Member {
  closed = false;
  readonly heard: string[] = [];
  async join(_socket: Protoo): Promise<void> {}
  request: Listener['request'] = async () => ({});
  notification(method: string): void {
    this.heard.push(method);
  }
  close(): void {
    this.closed = true;
  }
}

export function placed(node = 'fra-1', outcome = 'placed'): Answer {
  const body = {
    namespace: 'default',
    room: 'a b',
    outcome,
    node: { id: node, region: 'eu/central', signaling_url: `ws://${node}/signaling` },
    epoch: 7,
    ticket: 't.t.t',
    ttl_ms: 30_000,
    client: {},
  };
  return { status: 200, body };
}

export function problem(code: string, status: number, retryable: boolean, headers?: Record<string, string>): Answer {
  const body = { type: 'about:blank', title: code, status, code, detail: `because of ${code}`, retryable };
  return { status, body, ...(headers && { headers }) };
}

/** Lets everything that waits for nothing but promises run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await new Promise((resolve) => setImmediate(resolve));
}
