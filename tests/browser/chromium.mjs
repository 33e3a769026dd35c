// One headless Chromium with a made-up camera and microphone, in a folder of its own, gone when it is closed.
import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';

const PLACES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const CLOSES_WITHIN_MS = 3_000;

const FLAGS = [
  '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
  '--allow-loopback-in-peer-connection',
  '--disable-background-networking',
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
  '--disable-component-update',
  '--disable-default-apps',
  '--disable-extensions',
  '--disable-sync',
  '--disable-dev-shm-usage',
  '--metrics-recording-only',
  '--mute-audio',
  '--no-first-run',
  '--password-store=basic',
];

export class Chromium {
  #browser;
  #folder;

  static async start(fps = 20) {
    const started = new Chromium();
    started.#folder = await mkdtemp(join(tmpdir(), 'roost-chromium-'));
    try {
      // Chromium's own sandbox does not work for root.
      const sandbox = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
      started.#browser = await puppeteer.launch({
        executablePath: await executable(),
        headless: true,
        userDataDir: started.#folder,
        args: [...FLAGS, `--use-fake-device-for-media-stream=fps=${fps}`, ...sandbox],
        handleSIGINT: false,
        handleSIGTERM: false,
        handleSIGHUP: false,
      });
    } catch (error) {
      await started.close();
      throw error;
    }
    return started;
  }

  /** A page that shares nothing with the others. `media` sets features such as prefers-color-scheme. */
  async page({ width = 1280, height = 800, media = [] } = {}) {
    const context = await this.#browser.createBrowserContext();
    const page = await context.newPage();
    await page.setViewport({ width, height });
    if (media.length > 0) await page.emulateMediaFeatures(media);
    return page;
  }

  /** Closes it, by its process group if it does not answer, and removes its folder. */
  async close() {
    const pid = this.#browser?.process()?.pid;
    const closing = this.#browser?.close().catch(() => {});
    await Promise.race([closing, new Promise((done) => setTimeout(done, CLOSES_WITHIN_MS).unref())]);
    this.kill(pid);
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  kill(pid = this.#browser?.process()?.pid) {
    try {
      if (pid) process.kill(-pid, 'SIGKILL');
    } catch {
      // It is gone already.
    }
  }
}

async function executable() {
  for (const place of PLACES) {
    if (
      place &&
      (await access(place).then(
        () => true,
        () => false,
      ))
    )
      return place;
  }
  throw new Error(`no Chromium at ${PLACES.filter(Boolean).join(', ')}; set CHROMIUM`);
}
