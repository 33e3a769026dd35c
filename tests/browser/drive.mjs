// Participants in real Chromium join one room and must see and hear each other. `node drive.mjs --help` says how.
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { Chromium } from './chromium.mjs';
import { Participant, pause } from './participant.mjs';

const USAGE = `usage: node drive.mjs --page URL --scheduler URL[,URL] [options]
  --page URL            where dashboards/room is served
  --scheduler URL,…     public listeners; the participants use them in turn
  --room R              (drive)        --namespace N   (default)
  --region R,…          region hints, in turn
  --names A,B,…         the participants, who are also called so (alice,bob)
  --mode lookup         ask a scheduler, then connect (the default)
         scheduler-ws   connect to the schedulers' WebSocket (--ws, or --scheduler's addresses) and be redirected
         wrong-node     the first asks; the second connects to a node of --ws URL,… that is not the room's
  --fps N               pictures a second of the made-up cameras (20); fewer cost less
  --seconds S           how long media must flow (6)     --timeout S   to get that far (30)
  --screenshot F.png    the first participant's page     --json        one line of JSON, nothing else
  --hold                stay until standard input ends; each line of it is a command, each answer a line of JSON:
                        expect-return [S]  all lose the room and are back, with video, within S seconds (30)
                        expect-steady [S]  nobody loses anything for S seconds (5)
                        stats              the result again
Exit code: 0 passed, 1 failed, 2 wrong arguments.`;

/** Below these a picture is black, or one colour, or stands still. The fake camera is green with a moving timer. */
const LEAST = { mean: 10, spread: 3, moved: 0.05 };

const wish = readArguments();
let failed = false;
let ending = false;
const input = wish.hold ? createInterface({ input: process.stdin }) : undefined;
const commandLines = [];
// Standard input may end before anything is ready; then there is nothing to wait for.
input?.on('line', (line) => commandLines.push(line)).once('close', () => holding || void end(1));
let holding = false;
const starting = Chromium.start(wish.fps);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => void end(128));
const chromium = await starting.catch(fail);

try {
  const participants = await enter();
  const result = await check(participants);
  if (wish.screenshot) await participants[0].page.screenshot({ path: wish.screenshot, fullPage: true });
  report(result);
  failed = !result.ok;
  if (input && result.ok) await hold(participants);
} catch (error) {
  if (!ending) report({ ok: false, failures: [error.message] });
  failed = true;
}
await end(failed ? 1 : 0);

/** Brings all into the room, one after the other, and waits until each receives the other. */
async function enter() {
  const deadline = Date.now() + wish.timeoutMs;
  const participants = [];
  for (const [i, peer] of wish.names.entries()) {
    const participant = new Participant(peer, await chromium.page());
    participants.push(participant);
    await participant.open(wish.page, { ...common(i), ...(await way(i, participants[0])) });
    await joined(participant, deadline);
  }
  for (const { peer } of participants) {
    const others = wish.names.filter((name) => name !== peer);
    await participants.find((one) => one.peer === peer).receives(others, deadline);
  }
  return participants;
}

function common(i) {
  const region = wish.regions[i % wish.regions.length];
  return { room: wish.room, namespace: wish.namespace, region, cam: 'real', scheduler: turn(wish.schedulers, i) };
}

/** How participant i gets to the room's node. */
async function way(i, first) {
  if (wish.mode === 'lookup') return {};
  if (wish.mode === 'scheduler-ws')
    return { connect: turn(wish.sockets.length > 0 ? wish.sockets : wish.schedulers, i) };
  if (i === 0) return {};
  const { host } = await first.page.evaluate(() => ({ host: window.roost.status.host }));
  const wrong = wish.sockets.find((socket) => new URL(socket).host !== host);
  if (!wrong) throw new Error(`--ws: every node given is the room's own, ${host}`);
  return { connect: wrong };
}

async function joined(participant, deadline) {
  for (;;) {
    const { state } = await participant.status();
    if (state === 'joined') return;
    if (state === 'ended' || Date.now() > deadline) throw new Error(`did not join: ${await participant.says()}`);
    await pause(50);
  }
}

/** Media must flow from now on, for the time asked for. */
async function check(participants) {
  const before = await Promise.all(participants.map((participant) => participant.stats()));
  await pause(wish.seconds * 1000);
  const pictures = await Promise.all(participants.map((participant) => participant.pictures()));
  const failures = [];
  const described = [];
  for (const [i, participant] of participants.entries()) {
    const { peer } = participant;
    const { node, region, epoch, outcome, redirects, why, connections } = await participant.status();
    const received = (await participant.stats()).map((now) => describe(now, before[i], failures, peer));
    for (const kind of ['audio', 'video']) {
      if (!received.some((stream) => stream.kind === kind)) failures.push(`${peer} receives no ${kind}`);
    }
    for (const picture of pictures[i]) {
      for (const [what, least] of Object.entries(LEAST)) {
        if (picture[what] < least)
          failures.push(`${peer} sees ${picture.peer} with ${what} ${picture[what]}, expected ${least}`);
      }
    }
    if (pictures[i].length === 0) failures.push(`${peer} shows no picture`);
    const redirected = wish.mode === 'scheduler-ws' || (wish.mode === 'wrong-node' && i > 0);
    if (redirected && redirects === 0) failures.push(`${peer} was not redirected`);
    described.push({
      peer,
      node,
      region,
      epoch,
      outcome,
      redirects,
      why,
      connections,
      received,
      pictures: pictures[i],
    });
  }
  for (const what of ['node', 'epoch']) {
    const values = new Set(described.map((one) => one[what]));
    if (values.size > 1) failures.push(`the participants differ in ${what}: ${[...values].join(', ')}`);
  }
  return { ok: failures.length === 0, mode: wish.mode, room: wish.room, failures, participants: described };
}

function describe(now, before, failures, peer) {
  const { kind, consumer, bytesReceived, framesDecoded, width, height, bitrate, packetsLost, audioEnergy } = now;
  const then = before.find((stats) => stats.consumer === consumer);
  const grew = (what) => now[what] > (then?.[what] ?? 0);
  if (!grew('bytesReceived')) failures.push(`${peer}: the ${kind} of ${now.peer} does not flow`);
  if (kind === 'video' && !grew('framesDecoded')) failures.push(`${peer}: no picture of ${now.peer} is decoded`);
  if (kind === 'audio' && !grew('audioEnergy')) failures.push(`${peer}: ${now.peer} is silent`);
  const stream = { from: now.peer, kind, bytes: bytesReceived, bitrate_bps: bitrate, packets_lost: packetsLost };
  if (kind === 'audio') return { ...stream, energy: audioEnergy };
  return { ...stream, frames: framesDecoded, width, height };
}

/** Serves commands until standard input ends. */
async function hold(participants) {
  const commands = {
    stats: () => check(participants),
    'expect-return': async (seconds = 30) => {
      print({ event: 'expecting' });
      const deadline = Date.now() + seconds * 1000;
      const back = await Promise.all(participants.map((participant) => participant.returns(deadline)));
      return { event: 'returned', ok: back.every(({ ok }) => ok), participants: back };
    },
    'expect-steady': async (seconds = 5) => {
      const before = await Promise.all(participants.map((participant) => participant.status()));
      print({ event: 'expecting' });
      await pause(Math.max(0, seconds - wish.seconds) * 1000);
      const { failures } = await check(participants);
      for (const [i, participant] of participants.entries()) {
        const { connections } = await participant.status();
        if (connections !== before[i].connections) failures.push(`${participant.peer} lost the room and came back`);
      }
      return { event: 'steady', ok: failures.length === 0, failures };
    },
  };
  let ended = false;
  let wake = () => {};
  holding = true;
  input
    .on('line', () => wake())
    .once('close', () => {
      ended = true;
      wake();
    });
  while (commandLines.length > 0 || !ended) {
    const line = commandLines.shift();
    if (line === undefined) {
      await new Promise((resolve) => {
        wake = resolve;
      });
      continue;
    }
    const [name, seconds] = line.trim().split(/\s+/);
    if (!name) continue;
    const command = commands[name];
    const answer = command ? await command(seconds && Number(seconds)) : { ok: false, failures: [`${name}: unknown`] };
    if (!answer.ok) failed = true;
    print(answer);
  }
}

function report(result) {
  if (wish.json) return print(result);
  for (const { peer, node, region, epoch, why, received } of result.participants ?? []) {
    console.log(`${peer} at ${node} (${region ?? 'region not told'}), epoch ${epoch}: ${why}`);
    for (const { from, kind, width, height, bitrate_bps } of received) {
      const size = kind === 'video' ? `, ${width}x${height}` : '';
      console.log(`  ${kind} from ${from}${size}, ${Math.round(bitrate_bps / 1000)} kbit/s`);
    }
  }
  for (const failure of result.failures) console.log(`FAILED: ${failure}`);
  if (result.ok) console.log('passed');
}

function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Closes the browser, also one that is just starting, and ends; the first call counts. */
async function end(code) {
  if (ending) return;
  ending = true;
  const started = await starting.catch(() => undefined);
  await started?.close();
  process.exit(code);
}

function fail(error) {
  const says = { ok: false, failures: [error.message] };
  if (wish.json) print(says);
  else console.log(`FAILED: ${error.message}`);
  process.exit(1);
}

function turn(list, i) {
  return list[i % list.length];
}

function readArguments() {
  const text = (fallback) => ({ type: 'string', default: fallback });
  const options = {
    page: { type: 'string' },
    scheduler: text(''),
    room: text('drive'),
    namespace: text('default'),
    region: text(''),
    names: text('alice,bob'),
    fps: text('20'),
    mode: text('lookup'),
    ws: text(''),
    seconds: text('6'),
    timeout: text('30'),
    screenshot: { type: 'string' },
    json: { type: 'boolean' },
    hold: { type: 'boolean' },
    help: { type: 'boolean' },
  };
  try {
    const { values } = parseArgs({ options });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    const list = (value) => value.split(',').filter(Boolean);
    const seconds = Number(values.seconds);
    const timeoutMs = Number(values.timeout) * 1000;
    if (!URL.canParse(values.page ?? '')) throw new Error('--page: expected a URL');
    if (!['lookup', 'scheduler-ws', 'wrong-node'].includes(values.mode))
      throw new Error(`--mode ${values.mode}: unknown`);
    if (!(seconds > 0 && seconds <= 600 && timeoutMs > 0))
      throw new Error('--seconds, --timeout: expected a number above 0');
    const [schedulers, sockets, regions] = [list(values.scheduler), list(values.ws), list(values.region)];
    const names = list(values.names);
    if (new Set(names).size < 2) throw new Error('--names: expected two different names or more');
    if (values.mode !== 'scheduler-ws' && schedulers.length === 0) throw new Error('--scheduler: expected a URL');
    if (values.mode === 'wrong-node' && sockets.length === 0) throw new Error('--ws: expected the URLs of nodes');
    return { ...values, seconds, timeoutMs, schedulers, sockets, regions, names };
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(2);
  }
}
