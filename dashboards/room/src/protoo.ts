// One protoo WebSocket: requests both ways with time limits, and notifications.

export interface Closed {
  code: number;
  reason: string;
}

/** The other side refused a request. */
export class Refused extends Error {
  readonly code: number;

  constructor(method: string, code: number, reason: string) {
    super(`${method} refused: ${code} ${reason}`);
    this.name = 'Refused';
    this.code = code;
  }
}

/** The socket is gone, or the answer did not come in time. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer';
}

export interface Listener {
  /** The value is the answer; an exception refuses the request. */
  request(method: string, data: never): Promise<unknown>;
  notification(method: string, data: never): void;
}

/** What of a WebSocket is used; the browser's own has it. */
export interface Socket {
  readonly readyState: number;
  onopen: (() => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export type OpenSocket = (url: string, protocol: string) => Socket;

const OPEN_TIMEOUT_MS = 8_000;
const ANSWER_TIMEOUT_MS = 10_000;
const MOST_OPEN_REQUESTS = 64;
const SOCKET_OPEN = 1;

interface Waiting {
  method: string;
  resolve: (data: unknown) => void;
  reject: (error: Error) => void;
  timer: ReturnType<typeof setTimeout>;
}

export class Protoo {
  /** Resolves, once and for all, when the socket is gone. */
  readonly closed: Promise<Closed>;
  /** Resolves when the socket is open; rejects with `NoAnswer` when it never was. */
  readonly opened: Promise<void>;

  private readonly socket: Socket;
  private readonly waiting = new Map<number, Waiting>();
  private listener: Listener;
  private answering = 0;
  private end: (closed: Closed) => void = () => {};
  private ended = false;

  constructor(url: string, open: OpenSocket, listener: Listener) {
    this.listener = listener;
    this.closed = new Promise((resolve) => {
      this.end = resolve;
    });
    this.socket = open(url, 'protoo');
    this.opened = new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.finish({ code: 1006, reason: 'did not open in time' }), OPEN_TIMEOUT_MS);
      this.socket.onopen = () => {
        clearTimeout(timer);
        resolve();
      };
      void this.closed.then(({ code, reason }) => {
        clearTimeout(timer);
        reject(new NoAnswer(`not open: ${code} ${reason}`));
      });
    });
    this.opened.catch(() => {});
    this.socket.onclose = ({ code, reason }) => this.finish({ code, reason });
    this.socket.onmessage = ({ data }) => this.read(data);
  }

  get isClosed(): boolean {
    return this.ended;
  }

  /** Asks the other side; rejects with `Refused` or `NoAnswer`. */
  request<T>(method: string, data: object = {}): Promise<T> {
    if (this.ended || this.socket.readyState !== SOCKET_OPEN) {
      return Promise.reject(new NoAnswer(`${method}: the socket is closed`));
    }
    if (this.waiting.size >= MOST_OPEN_REQUESTS) {
      return Promise.reject(new NoAnswer(`${method}: ${MOST_OPEN_REQUESTS} requests are unanswered`));
    }
    return new Promise((resolve, reject) => {
      const id = this.freeId();
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new NoAnswer(`${method}: no answer in ${ANSWER_TIMEOUT_MS} ms`));
      }, ANSWER_TIMEOUT_MS);
      this.waiting.set(id, { method, resolve: resolve as (data: unknown) => void, reject, timer });
      this.send({ request: true, id, method, data });
    });
  }

  /** Closes the socket; nothing arrives after this. */
  close(code = 1000, reason = ''): void {
    this.finish({ code, reason });
  }

  private freeId(): number {
    for (;;) {
      const id = Math.floor(Math.random() * 10_000_000);
      if (!this.waiting.has(id)) return id;
    }
  }

  private send(frame: object): void {
    if (!this.ended && this.socket.readyState === SOCKET_OPEN) this.socket.send(JSON.stringify(frame));
  }

  private read(data: unknown): void {
    const frame = typeof data === 'string' ? parse(data) : undefined;
    if (this.ended || !frame) return;
    const body = (frame.data ?? {}) as never;
    if (frame.response === true) this.settle(frame);
    else if (frame.notification === true) this.listener.notification(String(frame.method), body);
    else if (frame.request === true) void this.answer(frame.id, String(frame.method), body);
  }

  private settle(frame: Record<string, unknown>): void {
    const id = Number(frame.id);
    const waiting = this.waiting.get(id);
    if (!waiting) return;
    this.waiting.delete(id);
    clearTimeout(waiting.timer);
    if (frame.ok === true) waiting.resolve(frame.data ?? {});
    else waiting.reject(new Refused(waiting.method, Number(frame.errorCode ?? 500), String(frame.errorReason ?? '')));
  }

  private async answer(id: unknown, method: string, data: never): Promise<void> {
    const refuse = (errorCode: number, errorReason: string) =>
      this.send({ response: true, id, ok: false, errorCode, errorReason });
    if (this.answering >= MOST_OPEN_REQUESTS) return refuse(503, 'too many requests at once');
    this.answering += 1;
    try {
      this.send({ response: true, id, ok: true, data: (await this.listener.request(method, data)) ?? {} });
    } catch (error) {
      refuse(500, error instanceof Error ? error.message : String(error));
    } finally {
      this.answering -= 1;
    }
  }

  private finish(closed: Closed): void {
    if (this.ended) return;
    this.ended = true;
    this.socket.onopen = null;
    this.socket.onclose = null;
    this.socket.onmessage = null;
    try {
      this.socket.close(closed.code === 1000 || closed.code >= 3000 ? closed.code : 1000, closed.reason.slice(0, 40));
    } catch {
      // A socket that cannot be closed is closed already.
    }
    for (const { method, reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new NoAnswer(`${method}: the socket closed (${closed.code} ${closed.reason})`));
    }
    this.waiting.clear();
    this.end(closed);
  }
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
