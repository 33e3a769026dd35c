// Puts session, room and page together, and shows the state to tests as `window.roost`.

import { OwnMedia } from './camera';
import { type ConsumerStats, Meter } from './meter';
import type { Socket } from './protoo';
import { type Peer, Room } from './room';
import { type Entry, Session, type Status, type Surroundings } from './session';
import { type Form, View } from './view';

const MOST_HISTORY = 100;
const MOST_TROUBLES = 4;
const METER_EVERY_MS = 1_000;

const browser: Surroundings = {
  openSocket: (url, protocol) => new WebSocket(url, protocol) as Socket,
  fetch: (url, init) => fetch(url, init),
  random: Math.random,
  now: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener('abort', () => {
        clearTimeout(timer);
        resolve();
      });
    }),
};

/** One participant from the press on Join until it has left. */
class Visit {
  room: Room | undefined;
  readonly session: Session;
  readonly own: OwnMedia;
  private readonly form: Form;

  constructor(form: Form, peer: string, own: OwnMedia) {
    this.form = form;
    this.own = own;
    const listener = {
      peersChanged: () => view.peers(this.peers()),
      said: (id: string, text: string) => this.heard(this.room?.peers.get(id)?.name ?? id, text),
      trouble: complain,
    };
    const makeMember = (drop: (why: string) => void) => {
      this.room = new Room(form.name, own, listener, drop);
      return this.room;
    };
    const participant = { namespace: form.namespace, room: form.room, peer };
    this.session = new Session(participant, entry(form), makeMember, changed, browser);
  }

  peers(): Iterable<Peer> {
    return this.room?.peers.values() ?? [];
  }

  heard(who: string, text: string): void {
    chat.push({ who, text });
    if (chat.length > MOST_HISTORY) chat.shift();
    view.said(who, text);
  }

  say(text: string): void {
    if (this.room?.say(text)) this.heard(this.form.name, text);
    else complain('The chat is not connected yet.');
  }

  async toggleMic(): Promise<void> {
    this.own.micOn = !this.own.micOn;
    this.show();
    await this.room?.setMic(this.own.micOn);
  }

  async toggleCam(): Promise<void> {
    if (this.own.camOn) this.own.closeVideo();
    else await this.own.openVideo(complain);
    this.show();
    await this.room?.setCam(this.own.camOn);
  }

  show(): void {
    const { micOn, camOn, audio, video } = this.own;
    view.controls(micOn, camOn, audio !== undefined, this.form.cam !== 'none');
    view.own(this.form.name, video);
  }
}

const query = new URLSearchParams(location.search);
const history: (Status & { at: number })[] = [];
const chat: { who: string; text: string }[] = [];
const meter = new Meter();
let status: Status = { state: 'idle', why: '', redirects: 0, connections: 0 };
let visit: Visit | undefined;
let joining = false;
let troubles: string[] = [];

const view = new View({
  join: (form) => void join(form),
  mic: () => attempt(visit?.toggleMic()),
  cam: () => attempt(visit?.toggleCam()),
  leave: () => visit?.session.leave(),
  say: (text) => visit?.say(text),
});

async function join(form: Form): Promise<void> {
  if (joining) return;
  joining = true;
  troubles = [];
  view.alert('');
  const own = await OwnMedia.open(form.cam, form.name, complain);
  try {
    visit = new Visit(form, query.get('peer') || `p-${crypto.getRandomValues(new Uint32Array(2)).join('')}`, own);
    remember(form);
    view.inRoom(true);
    visit.show();
    const { why } = await visit.session.run();
    if (why !== 'left') complain(`You are no longer in the room. ${why}`);
  } catch (error) {
    complain(error instanceof Error ? error.message : String(error));
  } finally {
    own.close();
    view.inRoom(false);
    visit = undefined;
    joining = false;
  }
}

function attempt(work: Promise<void> | undefined): void {
  work?.catch((error: Error) => complain(error.message));
}

/** Shows a trouble beside the latest others. */
function complain(what: string): void {
  troubles = [...troubles.filter((trouble) => trouble !== what), what].slice(-MOST_TROUBLES);
  view.alert(troubles.join('\n'));
}

function changed(now: Status): void {
  status = now;
  history.push({ ...now, at: Date.now() });
  if (history.length > MOST_HISTORY) history.shift();
  view.status(now);
}

function entry(form: Form): Entry {
  if (form.entry === 'socket') return { kind: 'socket', url: form.connect };
  const schedulers = form.scheduler.split(/[\s,]+/).filter(Boolean);
  return { kind: 'lookup', schedulers, ...(form.region && { region: form.region }) };
}

/** Keeps the room in the address, so that it can be passed on. */
function remember(form: Form): void {
  const kept = { room: form.room, namespace: form.namespace, region: form.region };
  const where = form.entry === 'socket' ? { connect: form.connect } : { scheduler: form.scheduler };
  const address = new URL(location.href);
  address.search = '';
  for (const [key, value] of Object.entries({ ...kept, ...where })) if (value) address.searchParams.set(key, value);
  window.history.replaceState(null, '', address);
}

function stats(): Promise<ConsumerStats[]> {
  return meter.read(visit?.peers() ?? []);
}

const roost = {
  get status() {
    return status;
  },
  get state() {
    return status.state;
  },
  get node() {
    return status.node;
  },
  get epoch() {
    return status.epoch;
  },
  get peers() {
    return [...(visit?.peers() ?? [])].map(({ id, name }) => ({ id, name }));
  },
  history,
  chat,
  stats,
  say: (text: string) => visit?.say(text),
  leave: () => visit?.session.leave(),
  preferLayers: (consumer: string, spatial: number, temporal: number) =>
    visit?.room?.preferLayers(consumer, spatial, temporal),
};
Object.assign(window, { roost });

view.fill({
  room: query.get('room') ?? 'lobby',
  name: query.get('name') ?? `Guest ${Math.floor(Math.random() * 1000)}`,
  namespace: query.get('namespace') ?? 'default',
  entry: query.has('connect') ? 'socket' : 'lookup',
  scheduler: query.get('scheduler') ?? (location.origin === 'null' ? '' : location.origin),
  connect: query.get('connect') ?? '',
  region: query.get('region') ?? '',
  cam: (['fake', 'none'] as const).find((cam) => cam === query.get('cam')) ?? 'real',
});
setInterval(() => {
  void stats().then((now) => view.stats(now, status.node));
}, METER_EVERY_MS);
if (query.get('auto') === '1') {
  const form = view.valid();
  if (form) void join(form);
}
