// A participant's way into a room and back: lookup, connect, redirect, return. Knows nothing of media.

import { explain, type Fetch, LookupError, lookup, type Problem, pauseMs, signalingUrl } from './lookup';
import { type Closed, type Listener, type OpenSocket, Protoo, Refused } from './protoo';

/** Where to begin: ask schedulers (the next one when one does not answer), or a socket that redirects. */
export type Entry = { kind: 'lookup'; schedulers: string[]; region?: string } | { kind: 'socket'; url: string };

export interface Participant {
  namespace: string;
  room: string;
  peer: string;
}

export type State = 'idle' | 'looking_up' | 'connecting' | 'joined' | 'returning' | 'ended';

export interface Status {
  state: State;
  /** Absent until a lookup or a redirect has named it. */
  node?: string;
  region?: string;
  epoch?: number;
  outcome?: string;
  /** Address of the node, or of what redirects to it. */
  host?: string;
  /** How the participant got here, or why it is not there. */
  why: string;
  /** Redirects on the way to the present node. */
  redirects: number;
  /** How often the room was joined. */
  connections: number;
  problem?: Problem;
}

/** What lives on one connection; a new one is made for each. */
export interface Member extends Listener {
  /** Resolves when the participant is in the room. */
  join(socket: Protoo): Promise<void>;
  close(): void;
}

/** Makes a member; `drop` gives the connection up when its media cannot be repaired. */
export type MakeMember = (drop: (why: string) => void) => Member;

/** What the world gives; tests give their own. */
export interface Surroundings {
  openSocket: OpenSocket;
  fetch: Fetch;
  random: () => number;
  /** Milliseconds of a clock that only grows. */
  now: () => number;
  /** Resolves after `ms`, or at once when the signal aborts. */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

export const MOST_REDIRECTS = 3;
/** Failures in a row before the session ends. */
export const MOST_FAILURES = 12;
/** A stay this long forgets the failures before it. */
const STEADY_MS = 5_000;
/** Participants who lost a node together come back within this time, without a further pause. */
const FIRST_RETURN_MS = 200;
const DROPPED = 3000;

interface Place {
  location: string;
  node?: string;
  region?: string;
  epoch?: number;
  outcome?: string;
  why: string;
}

interface Redirect {
  location: string;
  node?: string;
  epoch?: number;
}

interface Visit {
  redirect?: Redirect;
  closed: Closed;
  problem?: Problem;
  /** How long the participant was in the room; undefined: never. */
  joinedMs?: number;
  refused?: Error;
}

export type Verdict = { back: boolean; why: string; atLeastMs?: number; problem?: Problem };

export class Session {
  status: Status = { state: 'idle', why: '', redirects: 0, connections: 0 };

  private readonly leaving = new AbortController();
  private nextScheduler = 0;
  /** Why the participant had to come back; empty on the first way in. */
  private cause = '';
  private readonly participant: Participant;
  private readonly entry: Entry;
  private readonly makeMember: MakeMember;
  private readonly changed: (status: Status) => void;
  private readonly world: Surroundings;

  constructor(
    participant: Participant,
    entry: Entry,
    makeMember: MakeMember,
    changed: (status: Status) => void,
    world: Surroundings,
  ) {
    this.participant = participant;
    this.entry = entry;
    this.makeMember = makeMember;
    this.changed = changed;
    this.world = world;
  }

  /** Joins, and comes back as often as sensible. Resolves when the session has ended. */
  async run(): Promise<Status> {
    let failures = 0;
    for (;;) {
      const { verdict, joinedMs } = await this.attempt();
      if (this.leaving.signal.aborted) return this.set({ state: 'ended', why: 'left' });
      failures = joinedMs !== undefined && joinedMs >= STEADY_MS ? 1 : failures + 1;
      const end = { why: verdict.why, ...(verdict.problem && { problem: verdict.problem }) };
      if (!verdict.back) return this.set({ state: 'ended', ...end });
      if (failures > MOST_FAILURES) {
        return this.set({ state: 'ended', ...end, why: `given up after ${MOST_FAILURES} attempts: ${end.why}` });
      }
      this.cause = end.why;
      this.set({ state: 'returning', ...end });
      const first = joinedMs !== undefined && failures === 1;
      const { random, sleep } = this.world;
      await sleep(
        first ? random() * FIRST_RETURN_MS : pauseMs(failures, verdict.atLeastMs ?? 0, random),
        this.leaving.signal,
      );
    }
  }

  leave(): void {
    this.leaving.abort(new Error('left'));
  }

  /** One way into the room, with the stay in it. */
  private async attempt(): Promise<{ verdict: Verdict; joinedMs?: number }> {
    let place: Place;
    try {
      place = await this.locate();
    } catch (error) {
      if (!(error instanceof LookupError)) return { verdict: { back: false, why: String(error) } };
      const problem = error.problem && { problem: error.problem };
      return { verdict: { back: error.retryable, why: error.message, atLeastMs: error.retryAfterMs, ...problem } };
    }
    for (let redirects = 0; ; ) {
      this.enter(place, redirects);
      const visit = await this.visit(place.location);
      const joinedMs = visit.joinedMs === undefined ? {} : { joinedMs: visit.joinedMs };
      if (!hasRedirect(visit) || this.leaving.signal.aborted) return { verdict: judge(visit), ...joinedMs };
      redirects = visit.joinedMs === undefined ? redirects + 1 : 1;
      if (redirects > MOST_REDIRECTS) {
        return { verdict: { back: false, why: `redirected ${redirects} times without arriving` } };
      }
      place = follow(place, visit);
      if (!/^wss?:$/.test(protocolOf(place.location))) {
        return { verdict: { back: false, why: `redirected to ${place.location}: expected a ws or wss URL` } };
      }
    }
  }

  private async locate(): Promise<Place> {
    const { namespace, room, peer } = this.participant;
    const query = { roomId: room, peerId: peer, namespace, redirect: 'true' };
    if (this.entry.kind === 'socket') {
      const location = signalingUrl(this.entry.url, query);
      return { location, why: `straight to ${new URL(location).host}` };
    }
    const { schedulers, region } = this.entry;
    const scheduler = schedulers[this.nextScheduler % schedulers.length] ?? '';
    this.set({ state: 'looking_up', why: `asking ${scheduler}` });
    const { fetch } = this.world;
    try {
      const reply = await lookup({ scheduler, namespace, room, ...(region && { region }) }, fetch, this.leaving.signal);
      return {
        location: signalingUrl(reply.node.signaling_url, { ...query, ticket: reply.ticket }),
        node: reply.node.id,
        region: reply.node.region,
        epoch: reply.epoch,
        outcome: reply.outcome,
        why: `lookup: ${reply.outcome}`,
      };
    } catch (error) {
      if (error instanceof LookupError && !error.problem) this.nextScheduler += 1;
      throw error;
    }
  }

  /** Connects to one place and stays until the socket ends or a redirect comes. */
  private async visit(location: string): Promise<Visit> {
    const visit: Visit = { closed: { code: 1006, reason: '' } };
    let joinedAt: number | undefined;
    const member = this.makeMember((why) => protoo.close(DROPPED, why));
    let redirected: (redirect: Redirect) => void = () => {};
    const redirect = new Promise<Redirect>((resolve) => {
      redirected = resolve;
    });
    const protoo = new Protoo(location, this.world.openSocket, {
      request: (method, data) => member.request(method, data),
      notification: (method, data) => {
        if (method === 'redirect') redirected(data);
        else if (method === 'error') failed(data);
        else {
          if (method === 'mediasoup-version') this.arrived(data);
          member.notification(method, data);
        }
      },
    });
    const failed = (problem: Problem) => {
      visit.problem = problem;
      // The pause before the close is for clients that come back at once, for ever. Who was in the room, and spreads
      // its return itself, need not wait for it; who was refused at the door does.
      if (problem.retryable && joinedAt !== undefined) protoo.close(4000 + (problem.status % 1000), problem.code);
    };
    const leave = () => protoo.close(1000, 'left');
    this.leaving.signal.addEventListener('abort', leave);
    if (this.leaving.signal.aborted) leave();
    protoo.opened
      .then(() => member.join(protoo))
      .then(
        () => {
          if (protoo.isClosed) return;
          joinedAt = this.world.now();
          this.set({ state: 'joined', connections: this.status.connections + 1 });
        },
        (error: Error) => {
          if (protoo.isClosed) return;
          if (error instanceof Refused && error.code < 500) visit.refused = error;
          protoo.close(DROPPED, error.message);
        },
      );
    const end = await Promise.race([protoo.closed, redirect]);
    if ('location' in end) visit.redirect = end;
    else visit.closed = end;
    this.leaving.signal.removeEventListener('abort', leave);
    if (joinedAt !== undefined) visit.joinedMs = this.world.now() - joinedAt;
    protoo.close();
    member.close();
    return visit;
  }

  private enter(place: Place, redirects: number): void {
    const { node, region, epoch, outcome } = place;
    const why = this.cause ? `${place.why}; before: ${this.cause}` : place.why;
    const known = {
      ...(node && { node }),
      ...(region && { region }),
      ...(epoch && { epoch }),
      ...(outcome && { outcome }),
    };
    const { connections } = this.status;
    this.status = { state: 'connecting', why, redirects, connections, host: hostOf(place.location), ...known };
    this.changed(this.status);
  }

  /** A node says where the participant is; who came straight to it knows that from nobody else. */
  private arrived({ node, region, epoch }: { node?: string; region?: string; epoch?: number }): void {
    this.set({ ...(node && { node }), ...(region && { region }), ...(epoch && { epoch }) });
  }

  private set(change: Partial<Status>): Status {
    this.status = { ...this.status, ...change };
    if (change.state === 'joined') delete this.status.problem;
    this.changed(this.status);
    return this.status;
  }
}

/** Endings that are no errors. */
const ENDINGS: Record<string, string> = {
  replaced: 'replaced: the same participant came in again elsewhere',
  room_closed: 'room_closed: the room was closed',
};
/** Problems that a fresh lookup cures, although the same call again would not. */
const CURED_BY_LOOKUP = new Set(['ticket_expired', 'ticket_stale', 'ticket_wrong_node']);
/** The server refuses what this client sends; sending it again changes nothing. */
const OUR_FAULT = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

/** Whether a participant comes back after a socket ended like this. */
export function judge({ closed: { code, reason }, problem, refused }: Visit): Verdict {
  if (refused) return { back: false, why: refused.message };
  const told = problem
    ? { problem, why: explain(problem) }
    : { why: ENDINGS[reason] ?? `closed with ${code} ${reason}`.trim() };
  if (code === 4000) return { back: reason === 'redirect' || CURED_BY_LOOKUP.has(problem?.code ?? ''), ...told };
  if (OUR_FAULT.has(code)) return { back: false, ...told };
  return { back: code < 4400 || code >= 4500 || code === 4429, ...told };
}

function hasRedirect(visit: Visit): visit is Visit & { redirect: Redirect } {
  return visit.redirect !== undefined;
}

function follow(from: Place, { redirect, joinedMs }: Visit & { redirect: Redirect }): Place {
  const { location, node, epoch } = redirect;
  const by = hostOf(from.location);
  const why = joinedMs === undefined ? `${from.why}, redirected by ${by}` : `moved by ${by}`;
  // The region is the old node's; only a lookup tells one.
  const region = node && node === from.node && from.region ? { region: from.region } : {};
  return { location: String(location), ...(node && { node }), ...(epoch && { epoch }), ...region, why };
}

function hostOf(location: string): string {
  return URL.canParse(location) ? new URL(location).host : location;
}

function protocolOf(location: string): string {
  return URL.canParse(location) ? new URL(location).protocol : '';
}
