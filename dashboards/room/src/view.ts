// The page: join form, status line, tiles, chat. Shows what it is given and tells what was pressed.

import type { ConsumerStats } from './meter';
import type { Peer } from './room';
import type { Status } from './session';

export interface Form {
  room: string;
  name: string;
  namespace: string;
  entry: 'lookup' | 'socket';
  scheduler: string;
  connect: string;
  region: string;
  cam: 'real' | 'fake' | 'none';
}

export interface Presses {
  join(form: Form): void;
  mic(): void;
  cam(): void;
  leave(): void;
  say(text: string): void;
}

interface Tile {
  figure: HTMLElement;
  video: HTMLVideoElement;
  empty: HTMLElement;
  name: HTMLElement;
  facts: HTMLElement;
}

const OWN = '\0own';
const MOST_MESSAGES = 200;
const STATES: Record<Status['state'], string> = {
  idle: '',
  looking_up: 'Looking the room up',
  connecting: 'Connecting',
  joined: 'In the room',
  returning: 'Coming back',
  ended: 'Not in the room',
};

export class View {
  private readonly form = element('join', HTMLFormElement);
  private readonly mic = element('mic', HTMLButtonElement);
  private readonly cam = element('cam', HTMLButtonElement);
  private readonly sound = element('sound', HTMLButtonElement);
  private readonly tiles = new Map<string, Tile>();

  constructor(presses: Presses) {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      presses.join(this.read());
    });
    for (const radio of this.radios()) radio.addEventListener('change', () => this.showEntry());
    this.mic.addEventListener('click', () => presses.mic());
    this.cam.addEventListener('click', () => presses.cam());
    this.sound.addEventListener('click', () => this.soundOn());
    element('leave', HTMLButtonElement).addEventListener('click', () => presses.leave());
    const say = element('say', HTMLFormElement);
    say.addEventListener('submit', (event) => {
      event.preventDefault();
      const input = field(say, 'text');
      if (input.value.trim()) presses.say(input.value.trim());
      input.value = '';
    });
  }

  /** Fills the form. */
  fill(values: Form): void {
    for (const [name, value] of Object.entries(values)) if (name !== 'entry') field(this.form, name).value = value;
    for (const radio of this.radios()) radio.checked = radio.value === values.entry;
    this.showEntry();
  }

  /** The form as it stands; `undefined` when something in it is missing or wrong, which is then shown. */
  valid(): Form | undefined {
    return this.form.reportValidity() ? this.read() : undefined;
  }

  /** Shows the room, or the form. */
  inRoom(yes: boolean): void {
    element('room', HTMLElement).hidden = !yes;
    this.form.hidden = yes;
    if (yes) return;
    for (const id of [...this.tiles.keys()]) this.removeTile(id);
    element('log', HTMLElement).replaceChildren();
    this.sound.hidden = true;
  }

  status(status: Status): void {
    const line = element('status', HTMLElement);
    const state = span(STATES[status.state]);
    state.className = 'state';
    state.dataset.state = status.state;
    const facts: [string, string | number | undefined][] = [
      ['node', status.node],
      ['region', status.region],
      ['epoch', status.epoch],
      ['outcome', status.outcome],
      ['how', status.why],
    ];
    const shown = facts.filter(([, value]) => value !== undefined && value !== '');
    line.replaceChildren(...(status.state === 'idle' ? [] : [state, ...shown.map(([key, value]) => fact(key, value))]));
  }

  alert(text: string): void {
    const alert = element('alert', HTMLElement);
    alert.hidden = text === '';
    alert.textContent = text;
  }

  controls(micOn: boolean, camOn: boolean, hasMic: boolean, hasCam: boolean): void {
    press(this.mic, micOn ? 'Mute' : 'Unmute', !micOn && hasMic, hasMic);
    press(this.cam, camOn ? 'Stop camera' : 'Start camera', !camOn && hasCam, hasCam);
  }

  own(name: string, video: MediaStreamTrack | undefined): void {
    const tile = this.tile(OWN);
    tile.figure.classList.toggle('own', true);
    tile.video.muted = true;
    tile.name.textContent = `${name} (you)`;
    const { width, height } = video?.getSettings() ?? {};
    tile.facts.textContent = width && height ? `${width}×${height}` : '';
    play(tile, video ? [video] : [], () => {});
  }

  peers(peers: Iterable<Peer>): void {
    const present = new Set([OWN]);
    for (const peer of peers) {
      present.add(peer.id);
      const tile = this.tile(peer.id);
      tile.name.textContent = peer.name;
      tile.video.dataset.remote = peer.id;
      tile.video.setAttribute('aria-label', `Picture of ${peer.name}`);
      play(tile, tracks(peer), () => this.soundBlocked(tile));
    }
    for (const id of [...this.tiles.keys()]) if (!present.has(id)) this.removeTile(id);
  }

  stats(stats: ConsumerStats[], node: string | undefined): void {
    for (const [id, tile] of this.tiles) {
      const own = stats.filter(({ peer }) => peer === id);
      if (own.length === 0) continue;
      const video = own.find(({ kind, width }) => kind === 'video' && width > 0);
      const bitrate = own.reduce((sum, one) => sum + one.bitrate, 0);
      const facts = [video && `${video.width}×${video.height}`, rate(bitrate), node && `from ${node}`];
      tile.facts.textContent = facts.filter(Boolean).join(' · ');
    }
  }

  said(who: string, text: string): void {
    const log = element('log', HTMLElement);
    const line = document.createElement('li');
    const name = document.createElement('b');
    name.textContent = `${who}: `;
    line.append(name, text);
    log.append(line);
    while (log.children.length > MOST_MESSAGES) log.firstElementChild?.remove();
    log.scrollTop = log.scrollHeight;
  }

  private read(): Form {
    const text = (name: string) => field(this.form, name).value.trim();
    const entry = this.radios().find(({ checked }) => checked)?.value === 'socket' ? 'socket' : 'lookup';
    return {
      room: text('room'),
      name: text('name'),
      namespace: text('namespace'),
      entry,
      scheduler: text('scheduler'),
      connect: text('connect'),
      region: text('region'),
      cam: text('cam') as Form['cam'],
    };
  }

  private radios(): HTMLInputElement[] {
    return [...this.form.querySelectorAll<HTMLInputElement>('input[name=entry]')];
  }

  private showEntry(): void {
    const { entry } = this.read();
    for (const label of this.form.querySelectorAll<HTMLElement>('[data-entry]')) {
      label.hidden = label.dataset.entry !== entry;
    }
    field(this.form, 'connect').required = entry === 'socket';
    field(this.form, 'scheduler').required = entry === 'lookup';
  }

  private tile(id: string): Tile {
    const known = this.tiles.get(id);
    if (known) return known;
    const figure = document.createElement('figure');
    const screen = document.createElement('div');
    const caption = document.createElement('figcaption');
    const video = document.createElement('video');
    const tile = { figure, video, empty: span('No picture'), name: document.createElement('b'), facts: span('') };
    figure.className = 'tile';
    screen.className = 'screen';
    tile.empty.className = 'empty';
    tile.facts.className = 'facts';
    video.autoplay = true;
    video.playsInline = true;
    screen.append(video, tile.empty);
    caption.append(tile.name, tile.facts);
    figure.append(screen, caption);
    element('tiles', HTMLElement).append(figure);
    this.tiles.set(id, tile);
    return tile;
  }

  private removeTile(id: string): void {
    const tile = this.tiles.get(id);
    if (tile) tile.video.srcObject = null;
    tile?.figure.remove();
    this.tiles.delete(id);
  }

  private soundBlocked(tile: Tile): void {
    tile.video.muted = true;
    tile.video.play().catch(() => {});
    this.sound.hidden = false;
  }

  private soundOn(): void {
    this.sound.hidden = true;
    for (const [id, { video }] of this.tiles) {
      if (id === OWN) continue;
      video.muted = false;
      video.play().catch(() => {});
    }
  }
}

function element<T extends HTMLElement>(id: string, type: { new (): T }): T {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`the page has no ${id}`);
}

function field(form: HTMLFormElement, name: string): HTMLInputElement {
  return form.elements.namedItem(name) as HTMLInputElement;
}

function span(text: string): HTMLElement {
  const made = document.createElement('span');
  made.textContent = text;
  return made;
}

function fact(key: string, value: string | number | undefined): HTMLElement {
  const made = span(`${key} `);
  const bold = document.createElement('b');
  bold.textContent = String(value);
  made.append(bold);
  return made;
}

function press(button: HTMLButtonElement, label: string, pressed: boolean, enabled: boolean): void {
  button.textContent = label;
  button.setAttribute('aria-pressed', String(pressed));
  button.disabled = !enabled;
}

function tracks(peer: Peer): MediaStreamTrack[] {
  const consumers = [...peer.consumers.values()].filter(({ closed }) => !closed);
  const latest = (kind: string) => consumers.findLast((consumer) => consumer.kind === kind)?.track;
  return [latest('video'), latest('audio')].filter((track) => track !== undefined);
}

/** Plays these tracks in a tile; a stream that plays them already goes on undisturbed. */
function play(tile: Tile, wanted: MediaStreamTrack[], blocked: () => void): void {
  tile.empty.hidden = wanted.some(({ kind }) => kind === 'video');
  const stream = tile.video.srcObject instanceof MediaStream ? tile.video.srcObject : undefined;
  const playing = stream?.getTracks() ?? [];
  if (playing.length === wanted.length && wanted.every((track) => playing.includes(track))) return;
  tile.video.srcObject = wanted.length > 0 ? new MediaStream(wanted) : null;
  if (wanted.length === 0) return;
  tile.video.play().catch((error: Error) => {
    if (error.name === 'NotAllowedError') blocked();
  });
}

function rate(bitsPerSecond: number): string {
  if (bitsPerSecond >= 1_000_000) return `${(bitsPerSecond / 1_000_000).toFixed(1)} Mbit/s`;
  return `${Math.round(bitsPerSecond / 1000)} kbit/s`;
}
