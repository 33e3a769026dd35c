// Asks a scheduler where a room lives, and waits between attempts.

/** Where a room lives, as a scheduler answers it. */
export interface LookupReply {
  namespace: string;
  room: string;
  outcome: 'placed' | 'existing' | 'edge';
  node: { id: string; region: string; signaling_url: string };
  epoch: number;
  ticket: string;
  ttl_ms: number;
  client: { ip?: string; region?: string; carrier?: string };
  alternatives?: { id: string; signaling_url: string }[];
}

/** An error answer: RFC 9457 with the cluster's own fields. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  code: string;
  detail: string;
  retryable: boolean;
  request_id?: string;
  rejections?: { node: string; reason: string }[];
  rejection_counts?: { reason: string; count: number }[];
}

export interface LookupQuestion {
  /** Base URL of a scheduler's public listener. */
  scheduler: string;
  namespace: string;
  room: string;
  /** A hint that counts only with an API key or in development. */
  region?: string;
}

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** Why there is no answer, and whether another attempt makes sense. */
export class LookupError extends Error {
  readonly retryable: boolean;
  readonly problem: Problem | undefined;
  /** The scheduler asks for a pause of this length, in ms. */
  readonly retryAfterMs: number;

  constructor(message: string, retryable: boolean, problem?: Problem, retryAfterMs = 0) {
    super(message);
    this.name = 'LookupError';
    this.retryable = retryable;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }
}

const LOOKUP_TIMEOUT_MS = 10_000;
/** A `Retry-After` beyond this is cut, so that a broken answer cannot park a client. */
const LONGEST_PAUSE_MS = 30_000;

/** One lookup. Throws `LookupError`, or the signal's reason when aborted. */
export async function lookup(question: LookupQuestion, fetch: Fetch, signal: AbortSignal): Promise<LookupReply> {
  const body = question.region ? { region: question.region } : {};
  let response: Response;
  let text: string;
  try {
    response = await fetch(lookupUrl(question), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.any([signal, AbortSignal.timeout(LOOKUP_TIMEOUT_MS)]),
    });
    text = await response.text();
  } catch (error) {
    signal.throwIfAborted();
    const why = error instanceof Error ? error.message : String(error);
    throw new LookupError(`scheduler ${question.scheduler} does not answer: ${why}`, true);
  }
  if (!response.ok) throw refusal(response, text);
  const reply = parse(text) as LookupReply | undefined;
  if (!reply?.node?.signaling_url) throw new LookupError('the scheduler answered with something else', true);
  return reply;
}

/** The address of a room's lookup; throws when the scheduler's address is no HTTP URL. */
export function lookupUrl({ scheduler, namespace, room }: LookupQuestion): string {
  const base = httpBase(scheduler);
  const path = `v1/namespaces/${encodeURIComponent(namespace)}/rooms/${encodeURIComponent(room)}/lookup`;
  return `${base}/${path}`;
}

/** The node's address with all that it needs to know about the participant. */
export function signalingUrl(base: string, query: Record<string, string>): string {
  const url = new URL(base);
  if (url.protocol === 'http:') url.protocol = 'ws:';
  if (url.protocol === 'https:') url.protocol = 'wss:';
  for (const [key, value] of Object.entries(query)) if (value) url.searchParams.set(key, value);
  return url.href;
}

/**
 * How long to wait before attempt `failures` (1 is the first after a failure), in ms: doubled each time up to
 * 8 s, and spread over its upper half so that clients who lost a node together do not come back together.
 */
export function pauseMs(failures: number, atLeastMs: number, random: () => number): number {
  const step = Math.min(250 * 2 ** (failures - 1), 8_000);
  return Math.max(step / 2 + (random() * step) / 2, Math.min(atLeastMs, LONGEST_PAUSE_MS) * (1 + random() / 4));
}

function httpBase(scheduler: string): string {
  let url: URL;
  try {
    url = new URL(scheduler);
  } catch {
    throw new LookupError(`scheduler ${JSON.stringify(scheduler)}: expected an http or https URL`, false);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new LookupError(`scheduler ${JSON.stringify(scheduler)}: expected an http or https URL`, false);
  }
  return url.origin + url.pathname.replace(/\/+$/, '');
}

function refusal(response: Response, text: string): LookupError {
  const problem = parse(text) as Problem | undefined;
  const retryAfterMs = retryAfter(response.headers.get('retry-after'));
  if (!problem?.code) {
    const retryable = response.status >= 500 || response.status === 429;
    return new LookupError(`the scheduler answered ${response.status}`, retryable, undefined, retryAfterMs);
  }
  const retryable = problem.retryable ?? (response.status === 429 || response.status === 503);
  return new LookupError(explain(problem), retryable, problem, retryAfterMs);
}

/** A problem in one line, with the nodes' reasons. */
export function explain(problem: Problem): string {
  const counts = (problem.rejection_counts ?? []).map(({ reason, count }) => `${reason} ×${count}`);
  const reasons = counts.length > 0 ? counts : (problem.rejections ?? []).map((r) => `${r.node} ${r.reason}`);
  const detail = problem.detail || problem.title || '';
  return `${problem.code}: ${detail}${reasons.length > 0 ? ` (${reasons.join(', ')})` : ''}`;
}

function retryAfter(header: string | null): number {
  if (!header) return 0;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : 0;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
