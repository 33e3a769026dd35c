// One participant: a page that has joined a room, what it receives, and whether that is a living picture.

const LOOK_WIDTH = 64;
const LOOK_HEIGHT = 48;
/** Between two looks at a picture. */
const LOOK_AGAIN_MS = 700;
const POLL_MS = 50;

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export class Participant {
  problems = [];

  constructor(peer, page) {
    this.peer = peer;
    this.page = page;
    page.on('pageerror', (error) => this.problems.push(error.message));
  }

  async open(page, query) {
    const url = new URL(page);
    const all = { ...query, peer: this.peer, name: this.peer, auto: '1' };
    for (const [key, value] of Object.entries(all)) if (value) url.searchParams.set(key, value);
    await this.page.goto(url.href, { waitUntil: 'load', timeout: 15_000 });
  }

  status() {
    return this.page.evaluate(() => window.roost.status);
  }

  stats() {
    return this.page.evaluate(() => window.roost.stats());
  }

  /** What the page tells its user, for a failure's message. */
  async says() {
    const alert = await this.page.evaluate(() => document.getElementById('alert')?.textContent ?? '').catch(() => '');
    const { state, why } = await this.status().catch(() => ({ state: 'no page', why: '' }));
    return [`${this.peer} is ${state} (${why})`, alert, ...this.problems.slice(0, 3)].filter(Boolean).join('; ');
  }

  /** Waits until it decodes video and receives audio from each of these peers. */
  async receives(peers, deadline) {
    for (;;) {
      const { state } = await this.status();
      if (state === 'ended') throw new Error(await this.says());
      const stats = await this.stats();
      const missing = peers.filter((peer) => {
        const from = stats.filter((one) => one.peer === peer);
        const video = from.some(({ kind, framesDecoded }) => kind === 'video' && framesDecoded > 0);
        return !video || !from.some(({ kind, bytesReceived }) => kind === 'audio' && bytesReceived > 0);
      });
      if (missing.length === 0) return;
      if (Date.now() > deadline) throw new Error(`no audio and video from ${missing.join(', ')}: ${await this.says()}`);
      await pause(POLL_MS);
    }
  }

  /** Two looks at each remote picture: brightness, contrast, and how much moved between them. */
  async pictures() {
    const first = await this.#look();
    await pause(LOOK_AGAIN_MS);
    const second = await this.#look();
    return Object.entries(second).map(([peer, { mean, spread, luma }]) => {
      const before = first[peer]?.luma;
      const moved = before ? luma.reduce((sum, value, i) => sum + Math.abs(value - before[i]), 0) / luma.length : 0;
      return { peer, mean: round(mean), spread: round(spread), moved: round(moved) };
    });
  }

  /** Waits for a new connection whose video flows; says how long the picture stood still. */
  async returns(deadline) {
    const start = Date.now();
    const { connections: before } = await this.status();
    let seen = await this.#videoFrames();
    let lastFrameAt = start;
    for (let fresh = -1; ; ) {
      await pause(POLL_MS);
      const { connections, node, epoch, why, state } = await this.status();
      const frames = await this.#videoFrames();
      const now = Date.now();
      if (connections > before && frames > 0) {
        if (fresh >= 0 && frames > fresh) {
          const steps = await this.#steps(start);
          return { peer: this.peer, ok: true, ms: now - start, still_ms: now - lastFrameAt, node, epoch, why, steps };
        }
        fresh = frames;
      } else if (connections === before && frames > seen) {
        seen = frames;
        lastFrameAt = now;
      }
      if (now > deadline || state === 'ended')
        return { peer: this.peer, ok: false, ms: now - start, says: await this.says() };
    }
  }

  /** What the session did since, with the milliseconds. */
  #steps(start) {
    return this.page.evaluate(
      (since) => window.roost.history.filter(({ at }) => at >= since).map(({ at, state }) => `${at - since} ${state}`),
      start,
    );
  }

  async #videoFrames() {
    const stats = await this.stats();
    return stats.reduce((sum, { framesDecoded }) => sum + framesDecoded, 0);
  }

  #look() {
    return this.page.evaluate(
      (width, height) => {
        const looks = {};
        for (const video of document.querySelectorAll('video[data-remote]')) {
          const canvas = new OffscreenCanvas(width, height);
          const pen = canvas.getContext('2d', { willReadFrequently: true });
          pen.drawImage(video, 0, 0, width, height);
          const { data } = pen.getImageData(0, 0, width, height);
          const luma = [];
          for (let i = 0; i < data.length; i += 4) luma.push(0.3 * data[i] + 0.59 * data[i + 1] + 0.11 * data[i + 2]);
          const mean = luma.reduce((sum, value) => sum + value, 0) / luma.length;
          const spread = Math.sqrt(luma.reduce((sum, value) => sum + (value - mean) ** 2, 0) / luma.length);
          looks[video.dataset.remote] = { mean, spread, luma };
        }
        return looks;
      },
      LOOK_WIDTH,
      LOOK_HEIGHT,
    );
  }
}

function round(value) {
  return Math.round(value * 10) / 10;
}
